"""Channel pruning on torch-pruning's dependency graph (DepGraph, arXiv 2301.12900)."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torch_pruning
from torch import Tensor, nn

from compress.measurement.compute import macs, parameters
from compress.pruning.groups import coupled_layers, kept_layers, width
from compress.pruning.rounding import take_affordable, undecided
from compress.recipe.channels import Channels
from compress.utils.boundaries import boundary
from compress.utils.errors import UsageError

Curve = Sequence[tuple[float, float]]
"""Shares of a layer's channels, each with the loss of accuracy (a fraction) if it is removed."""
TIE = 1e-4  # smallest loss of accuracy assumed for the removal of a whole layer, so that layers without any loss differ
RATIOS = 64  # steps of the search for the pruning ratio
HALVINGS = 6  # of the last step, for targets that are counted and not timed
IMPORTANCES: dict[str, Callable[[], Any]] = {
    "l2": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=2),
    "l1": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=1),
    "batch_norm": lambda: torch_pruning.importance.BNScaleImportance(),
    "taylor": lambda: torch_pruning.importance.GroupTaylorImportance(),
    "random": lambda: torch_pruning.importance.RandomImportance(),
}
"""Rankings of channels: norm of the group (DepGraph), its scale (arXiv 1708.06519), Taylor (1906.10771), random."""


def prune_channels(
    model: nn.Module,
    resolution: int,
    settings: Channels,
    dense: nn.Module | None = None,
    *,
    latency: Callable[[nn.Module], float] | None = None,
    curves: Mapping[str, Curve] | None = None,
) -> nn.Module:
    """Return `model` in eval mode without its least important channels, at a cost of at most the target's share.

    The share of channels to remove is the smallest that reaches the target: of every layer (`ranking: local`), of the
    whole network (`global`), or of each layer with the same loss of accuracy (`sensitivity`). Channel counts are
    multiples of `round_to`; some layers keep one block of channels more where the cost stays below the target. The
    classifier keeps its outputs. For `taylor`, the parameters of `model` must have gradients; `random` draws from
    torch's generator, the same for every share.

    Args:
        dense: The network whose cost the target is a share of; None for `model`.
        latency: Measures a network as a share of the dense one's latency; needed for `target_latency`.
        curves: Loss of accuracy by layer and removed share; needed for `ranking: sensitivity`.

    Raises:
        UsageError: the target cannot be reached (the message has the smallest value that can), or no layer matches a
            pattern in `keep`.
        CompressError: torch-pruning cannot trace this architecture.
    """
    name, target, cost_of = _target(settings, resolution, model if dense is None else dense, latency)
    search = _Search(model, resolution, settings, kept_layers(model, settings.keep), curves)
    low, best = 0, model
    smallest = 1.0
    for high in _steps(model, settings, search.kept):
        best = search.at(high / RATIOS)
        share = cost_of(best)
        smallest = min(smallest, share)
        if share <= target:
            break
        low = high
    else:
        raise UsageError(f"{name} {target} cannot be reached: the smallest reachable value is {smallest:.4f}")
    while high - low > 1:
        middle = (low + high) // 2
        candidate = search.at(middle / RATIOS)
        if cost_of(candidate) <= target:
            high, best = middle, candidate
        else:
            low = middle
    if latency is None:
        best = search.nearer(low / RATIOS, high / RATIOS, best, lambda network: cost_of(network) <= target)
    return best.eval()


@dataclass(frozen=True)
class _Search:
    """What channels are removed from, and by which settings."""

    model: nn.Module
    resolution: int
    settings: Channels
    kept: Sequence[nn.Module]
    curves: Mapping[str, Curve] | None
    state: Tensor = field(default_factory=torch.get_rng_state)

    def at(self, progress: float) -> nn.Module:
        """Return the network at a common ratio, or at a progress through the measured losses."""
        ratio: float | dict[str, float] = progress
        if self.settings.ranking == "sensitivity":
            assert self.curves is not None
            ratio = ratios_at(self.curves, progress)
        torch.set_rng_state(self.state)
        return remove_channels(self.model, self.resolution, ratio, self.settings, self.kept)

    def nearer(self, low: float, high: float, best: nn.Module, affords: Callable[[nn.Module], bool]) -> nn.Module:
        """Return a network between the one at `low`, which costs too much, and `best`, the one at `high`."""
        wide = self.at(low) if low else self.model
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            candidate = self.at(middle)
            if affords(candidate):
                high, best = middle, candidate
            else:
                low, wide = middle, candidate
        groups, narrow = coupled_layers(self.model, self.resolution, self.settings), best

        def fits(layers: list[str]) -> bool:
            nonlocal best
            counts = {group[0]: width(wide if group[0] in layers else narrow, group[0]) for group in groups}
            candidate = self._with_widths(counts)
            if affordable := affords(candidate):
                best = candidate
            return affordable

        take_affordable(undecided(self.model, wide, narrow, groups, self.resolution), fits)
        return best

    def _with_widths(self, counts: Mapping[str, int]) -> nn.Module:
        shares = {name: 1 - channels / width(self.model, name) for name, channels in counts.items()}
        by_layer = self.settings.model_copy(update={"ranking": "sensitivity"})
        torch.set_rng_state(self.state)
        return remove_channels(self.model, self.resolution, shares, by_layer, self.kept)


def ratios_at(curves: Mapping[str, Curve], progress: float) -> dict[str, float]:
    """Find the largest share of each layer whose removal stays within the same loss of accuracy for all layers.

    The allowed loss rises with `progress` (0 to 1) through all measured losses in equal steps. Between two measured
    shares the loss is interpolated linearly, and never falls as more is removed; a gain counts as no loss, and layers
    without any loss lose smaller shares first.
    """
    rising = {name: _rising(curve) for name, curve in curves.items()}
    losses = sorted(loss for _, losses in rising.values() for loss in losses)
    allowed = np.interp(progress * (len(losses) - 1), np.arange(len(losses)), losses)
    return {name: float(np.interp(allowed, losses, shares)) for name, (shares, losses) in rising.items()}


def _rising(curve: Curve) -> tuple[list[float], list[float]]:
    """Shares and losses of a curve from (0, 0), with strictly rising losses."""
    shares, losses, highest = [0.0], [0.0], 0.0
    for share, loss in sorted(curve):
        highest = max(highest, loss)
        shares.append(share)
        losses.append(highest + TIE * share)
    return shares, losses


def _target(
    settings: Channels, resolution: int, dense: nn.Module, latency: Callable[[nn.Module], float] | None
) -> tuple[str, float, Callable[[nn.Module], float]]:
    """Name and value of the target, and a function that measures a network as a share of the dense one's cost."""
    if settings.target_latency is not None:
        assert latency is not None
        return "target_latency", settings.target_latency.share, latency
    if settings.target_macs is not None:
        total = macs(dense, resolution)
        return "target_macs", settings.target_macs, lambda model: macs(model, resolution) / total
    assert settings.target_params is not None
    weights = parameters(dense)
    return "target_params", settings.target_params, lambda model: parameters(model) / weights


def _steps(model: nn.Module, settings: Channels, kept: Sequence[nn.Module]) -> Sequence[int]:
    """Steps to try before the bisection, which is below the first one that reaches the target."""
    if settings.ranking == "global":
        return range(4, RATIOS, 4)  # at high shares torch-pruning skips layers that would lose all channels
    if settings.ranking == "sensitivity":
        return range(8, RATIOS + 1, 8)  # steps through the measured losses
    # Beyond this share the narrowest layer would keep nothing, and would be skipped too.
    widths = [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups == 1 and m not in kept]
    spare = [width for width in widths if width >= 2 * settings.round_to]
    return [int(RATIOS * (1 - settings.round_to / min(spare))) if spare else 0]


def remove_channels(
    model: nn.Module,
    resolution: int,
    ratio: float | Mapping[str, float],
    settings: Channels,
    kept: Sequence[nn.Module],
) -> nn.Module:
    """Return a copy of `model` without a share of the channels of every layer, or by layer, except the layers `kept`.

    Raises:
        CompressError: torch-pruning cannot trace this architecture.
    """
    names = {module: name for name, module in model.named_modules()}
    example = torch.zeros(1, 3, resolution, resolution)
    shares = ratio if isinstance(ratio, Mapping) else {}
    ratios = {name: _whole(model, name, share, settings.round_to) for name, share in shares.items()}
    with boundary("torch-pruning", type(model).__name__):
        copied = copy.deepcopy(model).eval()
        for parameter, original in zip(copied.parameters(), model.parameters(), strict=True):
            parameter.grad = None if original.grad is None else original.grad.clone()
        attention = _attention(copied)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Unwrapped parameters")  # their last dimension is pruned, as it should be
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
                in_channel_groups={},  # the shared defaults of these two would keep every network alive
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
    return copied


def _whole(model: nn.Module, layer: str, share: float, round_to: int) -> float:
    """Ratio with which torch-pruning removes at most this share of a layer, in multiples of `round_to`.

    It rounds the kept channels down, which would remove a block of channels for the smallest share.
    """
    channels = width(model, layer)
    keep = max(1, math.ceil(channels * (1 - share) / round_to - 1e-3)) * round_to
    return 0.0 if keep >= channels else 1 - (keep + 0.5) / channels


def _attention(model: nn.Module) -> list[Any]:
    """timm's attention layers, whose heads become narrower, and which store the width themselves."""
    return [m for m in model.modules() if {"num_heads", "head_dim", "attn_dim"} <= vars(m).keys() and hasattr(m, "qkv")]


def accumulate_gradients(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Accumulate the gradient of the summed cross-entropy in the parameters of `model`, for the `taylor` ranking.

    Earlier gradients are cleared. Batch norm uses its stored statistics, which stay as they are. Batches are pixels
    `[b, 3, r, r]` and labels int64 `[b]`.
    """
    model.eval()
    model.zero_grad(set_to_none=True)
    for pixels, labels in batches:
        F.cross_entropy(model(pixels), labels, reduction="sum").backward()  # type: ignore[no-untyped-call]
    model.train().eval()  # networks such as LeViT cache tensors of the graph in eval mode, until they train
