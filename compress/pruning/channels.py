"""Removal of whole channels on torch-pruning's dependency graph (DepGraph, arXiv 2301.12900)."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
import torch_pruning
from torch import nn

from compress.errors import CompressError, UsageError, first_line
from compress.measurement.compute import macs, parameters
from compress.models.build import classifier
from compress.recipe.schema import Channels

RATIOS = 64  # steps in which the pruning ratio is searched
IMPORTANCES: dict[str, Callable[[], Any]] = {
    "l2": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=2),
    "l1": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=1),
    "batch_norm": lambda: torch_pruning.importance.BNScaleImportance(),
    "taylor": lambda: torch_pruning.importance.GroupTaylorImportance(),
    "random": lambda: torch_pruning.importance.RandomImportance(),
}
"""How channels are ranked: norm of the group (DepGraph), its scale (arXiv 1708.06519), Taylor (1906.10771), chance."""


def prune_channels(model: nn.Module, resolution: int, settings: Channels, dense: nn.Module | None = None) -> nn.Module:
    """Return a copy of `model` that costs at most the target's share, its least important channels removed.

    The share of channels that leaves every layer (`ranking: local`) or the whole network (`global`) is the smallest of
    `RATIOS` steps that reaches the target. Channel counts are multiples of `round_to`, and the classifier keeps its
    outputs. For `taylor`, the parameters of `model` must hold gradients; `random` draws from torch's generator, the
    same for every share.

    Args:
        model: the network; it stays as it is.
        resolution: side of its images in pixels.
        settings: the target, the ranking, the layers that are kept.
        dense: the network whose cost the target is a share of; without it, `model`.

    Raises:
        UsageError: the target cannot be reached, and the smallest share that can be is named; or no layer has a name
            in `keep`.
        CompressError: torch-pruning cannot follow this architecture.
    """
    name, target, cost = _target(settings, resolution)
    whole = cost(model if dense is None else dense)
    kept = _kept(model, settings.keep)
    state = torch.get_rng_state()

    def at(step: int) -> nn.Module:
        torch.set_rng_state(state)
        return _pruned(model, resolution, step / RATIOS, settings, kept)

    low, best = 0, model
    smallest = 1.0
    for high in _steps(model, settings, kept):
        best = at(high)
        smallest = min(smallest, cost(best) / whole)
        if cost(best) <= target * whole:
            break
        low = high
    else:
        raise UsageError(f"{name} {target} cannot be reached: the smallest reachable value is {smallest:.4f}")
    while high - low > 1:
        middle = (low + high) // 2
        candidate = at(middle)
        if cost(candidate) <= target * whole:
            high, best = middle, candidate
        else:
            low = middle
    return best.eval()


def _target(settings: Channels, resolution: int) -> tuple[str, float, Callable[[nn.Module], int]]:
    if settings.target_macs is not None:
        return "target_macs", settings.target_macs, lambda model: macs(model, resolution)
    assert settings.target_params is not None
    return "target_params", settings.target_params, parameters


def _kept(model: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """Layers that keep their channels: the classifier, and those whose names match."""
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    kept: list[nn.Module] = [classifier(model)[1]]
    for pattern in patterns:
        found = [layer for name, layer in layers.items() if fnmatchcase(name, pattern)]
        if not found:
            close = difflib.get_close_matches(pattern, layers, 3)
            raise UsageError(f"keep: no layer is called {pattern!r}; there are {', '.join(close or list(layers)[:8])}")
        kept += found
    return kept


def _steps(model: nn.Module, settings: Channels, kept: Sequence[nn.Module]) -> Sequence[int]:
    """Steps among which the first that reaches the target bounds the search."""
    if settings.ranking == "global":
        return range(4, RATIOS, 4)  # at high shares torch-pruning leaves layers that would lose all as they are
    # Beyond this share the narrowest layer would keep nothing, and is left as it is too.
    widths = [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups == 1 and m not in kept]
    spare = [width for width in widths if width >= 2 * settings.round_to]
    return [int(RATIOS * (1 - settings.round_to / min(spare))) if spare else 0]


def _pruned(
    model: nn.Module, resolution: int, ratio: float, settings: Channels, kept: Sequence[nn.Module]
) -> nn.Module:
    copied = copy.deepcopy(model).eval()
    for parameter, original in zip(copied.parameters(), model.parameters(), strict=True):
        parameter.grad = None if original.grad is None else original.grad.clone()
    names = {module: name for name, module in model.named_modules()}
    example = torch.zeros(1, 3, resolution, resolution)
    try:
        pruner = torch_pruning.pruner.BasePruner(
            copied,
            example,
            importance=IMPORTANCES[settings.importance](),
            global_pruning=settings.ranking == "global",
            pruning_ratio=ratio,
            max_pruning_ratio=0.95 if settings.ranking == "global" else 1.0,
            ignored_layers=[copied.get_submodule(names[module]) for module in kept],
            round_to=settings.round_to,
        )
        pruner.step()
        copied.zero_grad(set_to_none=True)
        with torch.no_grad():
            copied(example)
    except (RuntimeError, ValueError, AttributeError, KeyError, IndexError, AssertionError) as error:
        reason = first_line(error, 150)
        raise CompressError(f"{type(model).__name__} cannot be pruned by torch-pruning: {reason}") from error
    return copied
