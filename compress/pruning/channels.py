"""Remove channels by torch-pruning's dependency graph (DepGraph, arXiv 2301.12900)."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
import torch_pruning
from torch import Tensor, nn

from compress.measurement.compute import evaluating
from compress.pruning.groups import width
from compress.recipe.channels import Channels
from compress.utils.boundaries import boundary
from compress.utils.errors import CompressError

IMPORTANCES: dict[str, Callable[[], Any]] = {
    "l2": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=2),
    "l1": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=1),
    "batch_norm": lambda: torch_pruning.importance.BNScaleImportance(),
    "taylor": lambda: torch_pruning.importance.GroupTaylorImportance(),
    "random": lambda: torch_pruning.importance.RandomImportance(),
}
"""Rankings of channels: norm of the group (DepGraph), its scale (arXiv 1708.06519), Taylor (1906.10771), random."""


def remove_channels(
    model: nn.Module,
    resolution: int,
    ratio: float | Mapping[str, float],
    settings: Channels,
    kept: Sequence[nn.Module],
    outputs: torch.Size,
    on_remove: Callable[[str, bool, Sequence[int]], None] | None = None,
) -> nn.Module:
    """Return a copy of `model` without a share of the channels of every layer, or by layer, except the layers `kept`.

    `outputs` is the shape of its outputs for one image. `on_remove` is told what is removed: from which module, whether
    of its outputs or of its inputs, and which of those it still has.

    Raises:
        CompressError: torch-pruning cannot trace this architecture, or would remove classes.
    """
    names = {module: name for name, module in model.named_modules()}
    example = torch.zeros(1, 3, resolution, resolution)
    shares = ratio if isinstance(ratio, Mapping) else {}
    ratios = {name: _ratio(model, name, share, settings.round_to) for name, share in shares.items()}
    with boundary("torch-pruning", type(model).__name__):
        copied = duplicate(model)
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
        modules = {module: name for name, module in copied.named_modules()}
        for group in pruner.step(interactive=True):
            for item in group:
                name = modules.get(item.dep.target.module)
                if on_remove and name:
                    on_remove(name, pruner.DG.is_out_channel_pruning_fn(item.dep.handler), item.idxs)
            group.prune()
        for module in attention:
            _narrow_heads(module)
        copied.zero_grad(set_to_none=True)
        with torch.no_grad():
            given = copied(example)
    if given.shape != outputs:
        raise CompressError(
            f"{type(model).__name__} would lose outputs by pruning, as its classifier was not recognised: "
            f"{list(outputs[1:])} to {list(given.shape[1:])}; name its classifier in `keep`"
        )
    return copied


def whole_blocks(channels: int, share: float, round_to: int) -> int:
    """Return the channels of a layer that stay if it loses at most this share of them, in multiples of `round_to`."""
    keep = max(1, math.ceil(channels * (1 - share) / round_to - 1e-3)) * round_to
    return min(keep, channels)


def _ratio(model: nn.Module, layer: str, share: float, round_to: int) -> float:
    """Return the ratio with which torch-pruning, which rounds the kept channels down, leaves whole blocks."""
    channels = width(model, layer)
    keep = whole_blocks(channels, share, round_to)
    return 0.0 if keep == channels else 1 - (keep + 0.5) / channels


def _attention(model: nn.Module) -> list[Any]:
    """timm's attention layers, whose heads become narrower, and which store the width themselves."""
    return [m for m in model.modules() if {"num_heads", "head_dim", "attn_dim"} <= vars(m).keys() and hasattr(m, "qkv")]


@torch.no_grad()
def _narrow_heads(attention: Any) -> None:
    """Tell an attention layer its new width; queries keep the temperature, as its scale follows from the width."""
    before = attention.head_dim
    attention.attn_dim = attention.qkv.out_features // 3
    attention.head_dim = attention.attn_dim // attention.num_heads
    attention.scale = attention.head_dim**-0.5
    for queries in (attention.qkv.weight, attention.qkv.bias):
        if queries is not None:
            queries[: attention.attn_dim] *= math.sqrt(attention.head_dim / before)


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


def duplicate(model: nn.Module) -> nn.Module:
    """Copy a network in eval mode, without what it caches there."""
    with evaluating(model):
        return copy.deepcopy(model)
