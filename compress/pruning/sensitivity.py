"""Sensitivity analysis: the loss of accuracy if one layer alone is pruned (as in arXiv 1608.08710, section 3.2)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TypedDict

import torch
import torch_pruning
from torch import nn

from compress.pruning.channels import Curve, kept_layers, remove_channels
from compress.recipe.channels import Channels
from compress.utils.boundaries import boundary


class SensitivityRow(TypedDict):
    """One layer pruned alone, as in results.json."""

    layers: list[str]  # names of the layers that lose channels together, the one that stands for them first
    asked: float  # requested share of the channels
    ratio: float  # share that was removed, in whole multiples of `round_to` channels
    top1: float  # accuracy without it, a fraction
    loss: float  # loss of accuracy, a fraction


def coupled_layers(model: nn.Module, resolution: int, settings: Channels) -> list[list[str]]:
    """Find layers that lose channels together; the first of each group stands for it, and kept layers are left out."""
    kept = kept_layers(model, settings.keep)
    names = {module: name for name, module in model.named_modules()}
    groups = []
    with boundary("torch-pruning", type(model).__name__), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unwrapped parameters")
        graph = torch_pruning.DependencyGraph().build_dependency(model, torch.zeros(1, 3, resolution, resolution))
        for group in graph.get_all_groups(ignored_layers=kept, root_module_types=[nn.Conv2d, nn.Linear]):
            layers = [
                names[item.dep.target.module]
                for item in group
                if isinstance(item.dep.target.module, nn.Conv2d | nn.Linear)
                and graph.is_out_channel_pruning_fn(item.dep.handler)
            ]
            groups.append(list(dict.fromkeys(layers)))
    return groups


def sensitivity(
    model: nn.Module,
    resolution: int,
    settings: Channels,
    ratios: Sequence[float],
    top1: Callable[[nn.Module], float],
) -> Iterator[SensitivityRow]:
    """Prune each layer alone, with the layers coupled to it, without repair; `top1` measures a network, a fraction.

    Yields a row per layer and share, except for shares that remove nothing, or as much as a smaller share.
    """
    baseline = top1(model)
    kept = kept_layers(model, settings.keep)
    for layers in coupled_layers(model, resolution, settings):
        done = {0.0}
        width = _width(model, layers[0])
        for ratio in ratios:
            pruned = remove_channels(model, resolution, {layers[0]: ratio}, settings, kept)
            removed = round(1 - _width(pruned, layers[0]) / width, 4)
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


def _width(model: nn.Module, layer: str) -> int:
    module = model.get_submodule(layer)
    return module.out_channels if isinstance(module, nn.Conv2d) else module.out_features  # type: ignore[return-value]
