"""Removal of whole channels on torch-pruning's dependency graph (DepGraph, arXiv 2301.12900)."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch_pruning
from torch import nn

from compress.measurement.compute import macs, parameters
from compress.models.factory import classifier
from compress.models.layers import layers_named
from compress.recipe.channels import Channels
from compress.utils.errors import CompressError, UsageError, first_line

Curve = Sequence[tuple[float, float]]
"""Shares of a layer's channels, each with the accuracy (a fraction) that its removal costs."""
TIE = 1e-4
"""Accuracy that the whole of a layer is taken to cost at least, so that layers which cost nothing are told apart."""
RATIOS = 64  # steps in which the pruning ratio is searched
IMPORTANCES: dict[str, Callable[[], Any]] = {
    "l2": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=2),
    "l1": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=1),
    "batch_norm": lambda: torch_pruning.importance.BNScaleImportance(),
    "taylor": lambda: torch_pruning.importance.GroupTaylorImportance(),
    "random": lambda: torch_pruning.importance.RandomImportance(),
}
"""How channels are ranked: norm of the group (DepGraph), its scale (arXiv 1708.06519), Taylor (1906.10771), chance."""


def prune_channels(
    model: nn.Module,
    resolution: int,
    settings: Channels,
    dense: nn.Module | None = None,
    *,
    latency: Callable[[nn.Module], float] | None = None,
    curves: Mapping[str, Curve] | None = None,
) -> nn.Module:
    """Return a copy of `model` that costs at most the target's share, its least important channels removed.

    The share of channels that leaves is the smallest of `RATIOS` steps that reaches the target: of every layer
    (`ranking: local`), of the whole network (`global`), or of each layer as much as costs the same accuracy
    (`sensitivity`). Channel counts are multiples of `round_to`, and the classifier keeps its outputs. For `taylor`, the
    parameters of `model` must hold gradients; `random` draws from torch's generator, the same for every share.

    Args:
        model: the network; it stays as it is.
        resolution: side of its images in pixels.
        settings: the target, the ranking, the layers that are kept.
        dense: the network whose cost the target is a share of; without it, `model`.
        latency: measures a network, as a share of the dense one's latency; needed for `target_latency`.
        curves: of each layer, what accuracy it costs to remove which share of it; needed for `ranking: sensitivity`.

    Raises:
        UsageError: the target cannot be reached, and the smallest share that can be is named; or no layer has a name
            in `keep`.
        CompressError: torch-pruning cannot follow this architecture.
    """
    name, target, share_of = _target(settings, resolution, model if dense is None else dense, latency)
    kept = kept_layers(model, settings.keep)
    state = torch.get_rng_state()

    def at(step: int) -> nn.Module:
        torch.set_rng_state(state)
        ratio: float | dict[str, float] = step / RATIOS
        if settings.ranking == "sensitivity":
            assert curves is not None
            ratio = ratios_at(curves, step / RATIOS)
        return without_channels(model, resolution, ratio, settings, kept)

    low, best = 0, model
    smallest = 1.0
    for high in _steps(model, settings, kept):
        best = at(high)
        share = share_of(best)
        smallest = min(smallest, share)
        if share <= target:
            break
        low = high
    else:
        raise UsageError(f"{name} {target} cannot be reached: the smallest reachable value is {smallest:.4f}")
    while high - low > 1:
        middle = (low + high) // 2
        candidate = at(middle)
        if share_of(candidate) <= target:
            high, best = middle, candidate
        else:
            low = middle
    return best.eval()


def ratios_at(curves: Mapping[str, Curve], progress: float) -> dict[str, float]:
    """Of each layer the largest share whose removal costs no more accuracy than is allowed to every layer.

    What is allowed rises with `progress` (0 to 1) through all losses that were measured, each an equal step. Between
    two measured shares the loss is taken to be linear, and never to fall as more is removed; a gain counts as no loss,
    and of layers that lose nothing at all, each gives up the smaller shares first.
    """
    rising = {name: _rising(curve) for name, curve in curves.items()}
    losses = sorted(loss for _, losses in rising.values() for loss in losses)
    allowed = np.interp(progress * (len(losses) - 1), np.arange(len(losses)), losses)
    return {name: float(np.interp(allowed, losses, shares)) for name, (shares, losses) in rising.items()}


def _rising(curve: Curve) -> tuple[list[float], list[float]]:
    """Shares and losses of a curve, from nothing removed on, the losses strictly rising."""
    shares, losses, highest = [0.0], [0.0], 0.0
    for share, loss in sorted(curve):
        highest = max(highest, loss)
        shares.append(share)
        losses.append(highest + TIE * share)
    return shares, losses


def _target(
    settings: Channels, resolution: int, dense: nn.Module, latency: Callable[[nn.Module], float] | None
) -> tuple[str, float, Callable[[nn.Module], float]]:
    """Name and value of the target, and what tells which share of the dense network's cost a network has."""
    if settings.target_latency is not None:
        assert latency is not None
        return "target_latency", settings.target_latency.share, latency
    if settings.target_macs is not None:
        whole = macs(dense, resolution)
        return "target_macs", settings.target_macs, lambda model: macs(model, resolution) / whole
    assert settings.target_params is not None
    weights = parameters(dense)
    return "target_params", settings.target_params, lambda model: parameters(model) / weights


def kept_layers(model: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """Layers that keep their channels: the classifier, and those whose names match."""
    return [classifier(model)[1], *layers_named(model, patterns).values()]


def _steps(model: nn.Module, settings: Channels, kept: Sequence[nn.Module]) -> Sequence[int]:
    """Steps among which the first that reaches the target bounds the search."""
    if settings.ranking == "global":
        return range(4, RATIOS, 4)  # at high shares torch-pruning leaves layers that would lose all as they are
    if settings.ranking == "sensitivity":
        return range(8, RATIOS + 1, 8)  # steps through the measured losses
    # Beyond this share the narrowest layer would keep nothing, and is left as it is too.
    widths = [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups == 1 and m not in kept]
    spare = [width for width in widths if width >= 2 * settings.round_to]
    return [int(RATIOS * (1 - settings.round_to / min(spare))) if spare else 0]


def without_channels(
    model: nn.Module,
    resolution: int,
    ratio: float | Mapping[str, float],
    settings: Channels,
    kept: Sequence[nn.Module],
) -> nn.Module:
    """A copy of `model` without a share of its channels: of every layer, or of those that `ratio` names.

    Raises:
        CompressError: torch-pruning cannot follow this architecture.
    """
    copied = copy.deepcopy(model).eval()
    for parameter, original in zip(copied.parameters(), model.parameters(), strict=True):
        parameter.grad = None if original.grad is None else original.grad.clone()
    names = {module: name for name, module in model.named_modules()}
    example = torch.zeros(1, 3, resolution, resolution)
    attention = _attention(copied)
    ratios = {name: _whole(model, name, share, settings.round_to) for name, share in _named(ratio).items()}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Unwrapped parameters")  # their last dimension is pruned, as is right
            pruner = torch_pruning.pruner.BasePruner(
                copied,
                example,
                importance=IMPORTANCES[settings.importance](),
                global_pruning=settings.ranking == "global",
                pruning_ratio=0.0 if isinstance(ratio, Mapping) else ratio,
                pruning_ratio_dict={copied.get_submodule(name): value for name, value in ratios.items()},
                max_pruning_ratio=0.95 if settings.ranking == "global" else 1.0,
                ignored_layers=[copied.get_submodule(names[module]) for module in kept],
                round_to=settings.round_to,
                num_heads={module.qkv: module.num_heads for module in attention},
                in_channel_groups={},  # the defaults of these two are shared, and would keep every network alive
                out_channel_groups={},
            )
        pruner.step()
        for module in attention:
            module.attn_dim = module.qkv.out_features // 3
            module.head_dim = module.attn_dim // module.num_heads
            module.scale = module.head_dim**-0.5
        copied.zero_grad(set_to_none=True)
        with torch.no_grad():
            copied(example)
    except (RuntimeError, ValueError, AttributeError, KeyError, IndexError, AssertionError) as error:
        reason = first_line(error, 150)
        raise CompressError(f"{type(model).__name__} cannot be pruned by torch-pruning: {reason}") from error
    return copied


def _named(ratio: float | Mapping[str, float]) -> Mapping[str, float]:
    return ratio if isinstance(ratio, Mapping) else {}


def _whole(model: nn.Module, layer: str, share: float, round_to: int) -> float:
    """The ratio with which torch-pruning removes at most this share of a layer, in whole multiples of `round_to`.

    It rounds what is kept down, which would take a block of channels for the smallest share.
    """
    width = int(model.get_submodule(layer).weight.shape[0])  # type: ignore[index]
    keep = max(1, math.ceil(width * (1 - share) / round_to - 1e-3)) * round_to
    return 0.0 if keep >= width else 1 - (keep + 0.5) / width


def _attention(model: nn.Module) -> list[Any]:
    """timm's attention layers, whose heads become narrower, and which hold the width themselves."""
    return [m for m in model.modules() if {"num_heads", "head_dim", "attn_dim"} <= vars(m).keys() and hasattr(m, "qkv")]
