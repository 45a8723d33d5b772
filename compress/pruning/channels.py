"""Removal of whole channels on torch-pruning's dependency graph (DepGraph, arXiv 2301.12900)."""

from __future__ import annotations

import copy

import torch
import torch_pruning
from torch import nn

from compress.errors import CompressError, UsageError, first_line
from compress.measurement.compute import macs
from compress.models.build import classifier

RATIOS = 64  # steps in which the pruning ratio is searched


def prune_channels(model: nn.Module, resolution: int, target: float, round_to: int) -> nn.Module:
    """Return a copy of `model` with at most `target` of its multiply-accumulates (a fraction of them).

    The same share of channels leaves every layer, those whose group has the smallest L2 norm first; channel counts are
    multiples of `round_to`, and the classifier keeps its outputs. The share is the smallest of `RATIOS` steps that
    reaches the target.

    Raises:
        UsageError: the target cannot be reached; the smallest share that can be is named.
        CompressError: torch-pruning cannot follow this architecture.
    """
    whole = macs(model, resolution)
    # Beyond this share the narrowest layer would keep nothing, and torch-pruning leaves such a layer as it is.
    narrowest = min(_widths(model, round_to), default=0)
    low, high = 0, int(RATIOS * (1 - round_to / narrowest)) if narrowest else 0
    best = _pruned(model, resolution, high / RATIOS, round_to)
    if macs(best, resolution) > target * whole:
        reachable = macs(best, resolution) / whole
        raise UsageError(f"target_macs {target} cannot be reached: the smallest reachable value is {reachable:.4f}")
    while high - low > 1:
        middle = (low + high) // 2
        candidate = _pruned(model, resolution, middle / RATIOS, round_to)
        if macs(candidate, resolution) <= target * whole:
            high, best = middle, candidate
        else:
            low = middle
    return best.eval()


def _widths(model: nn.Module, round_to: int) -> list[int]:
    """Channels of the convolutions that have some to spare."""
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups == 1]
    return [m.out_channels for m in convolutions if m.out_channels >= 2 * round_to]


def _pruned(model: nn.Module, resolution: int, ratio: float, round_to: int) -> nn.Module:
    copied = copy.deepcopy(model).eval()
    example = torch.zeros(1, 3, resolution, resolution)
    try:
        pruner = torch_pruning.pruner.BasePruner(
            copied,
            example,
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            ignored_layers=[classifier(copied)[1]],
            round_to=round_to,
        )
        pruner.step()
        with torch.no_grad():
            copied(example)
    except (RuntimeError, ValueError, AttributeError, KeyError, IndexError, AssertionError) as error:
        reason = first_line(error, 150)
        raise CompressError(f"{type(model).__name__} cannot be pruned by torch-pruning: {reason}") from error
    return copied
