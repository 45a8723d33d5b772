"""Sensitivity analysis: the loss of accuracy if one layer alone is pruned (as in arXiv 1608.08710, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypedDict

from torch import nn

from compress.pruning.channels import remove_channels
from compress.pruning.curves import Curve
from compress.pruning.groups import output_shape, width
from compress.pruning.prunable import Prunable
from compress.recipe.channels import Channels


class SensitivityRow(TypedDict):
    """One layer pruned alone, as in results.json."""

    layers: list[str]  # names of the layers that lose channels together, the one that stands for them first
    asked: float  # requested share of the channels
    ratio: float  # share that was removed, in whole multiples of `round_to` channels
    top1: float  # accuracy without it, a fraction
    loss: float  # loss of accuracy, a fraction


def sensitivity(
    model: nn.Module,
    resolution: int,
    settings: Channels,
    prunable: Prunable,
    ratios: Sequence[float],
    top1: Callable[[nn.Module], float],
) -> Iterator[SensitivityRow]:
    """Prune each layer alone, with the layers coupled to it, without repair; `top1` measures a network, a fraction.

    Yields a row per layer and share, except for shares that remove nothing, or as much as a smaller share.
    """
    baseline = top1(model)
    outputs = output_shape(model, resolution)
    for layers in (group.layers for group in prunable.groups):
        done = {0.0}
        channels = width(model, layers[0])
        for ratio in ratios:
            pruned = remove_channels(model, resolution, {layers[0]: ratio}, settings, prunable.kept, outputs)
            removed = round(1 - width(pruned, layers[0]) / channels, 4)
            if removed not in done:
                done.add(removed)
                reached = top1(pruned)
                yield {
                    "layers": layers,
                    "asked": ratio,
                    "ratio": removed,
                    "top1": reached,
                    "loss": round(baseline - reached, 6),
                }


def curves_by_layer(rows: Sequence[SensitivityRow]) -> dict[str, Curve]:
    """Collect, by the layer that stands for its group, the removed shares with their losses of accuracy."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        curves.setdefault(row["layers"][0], []).append((row["ratio"], row["loss"]))
    return dict(curves)
