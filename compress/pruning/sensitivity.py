"""What it costs to prune one layer alone (as in arXiv 1608.08710, section 3.2)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch_pruning
from torch import nn

from compress.pruning.channels import Curve, kept_layers, without_channels
from compress.recipe.channels import Channels

Row = dict[str, Any]


def coupled_layers(model: nn.Module, resolution: int, settings: Channels) -> list[list[str]]:
    """Names of the layers that lose channels together, first the one that stands for them; kept layers are left out."""
    kept = kept_layers(model, settings.keep)
    names = {module: name for name, module in model.named_modules()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unwrapped parameters")
        graph = torch_pruning.DependencyGraph().build_dependency(model, torch.zeros(1, 3, resolution, resolution))
    found = []
    for group in graph.get_all_groups(ignored_layers=kept, root_module_types=[nn.Conv2d, nn.Linear]):
        layers = [
            names[item.dep.target.module]
            for item in group
            if isinstance(item.dep.target.module, nn.Conv2d | nn.Linear)
            and graph.is_out_channel_pruning_fn(item.dep.handler)
        ]
        found.append(list(dict.fromkeys(layers)))
    return found


def sensitivity(
    model: nn.Module,
    resolution: int,
    settings: Channels,
    ratios: Sequence[float],
    top1: Callable[[nn.Module], float],
) -> Iterator[Row]:
    """Prune each layer alone, with those that are coupled to it, without repair.

    Args:
        model: the network; it stays as it is.
        resolution: side of its images in pixels.
        settings: the importance by which channels are ranked, and the layers that are kept.
        ratios: shares of a layer's channels.
        top1: accuracy of a network, a fraction.

    Yields:
        `{layers, asked, ratio, top1, loss}`; `asked` is one of `ratios`, `ratio` what was really removed, a whole
        number of `round_to` channels, and `loss` what `top1` fell by, a fraction. What would remove nothing, or as much
        as a share before, has no row.
    """
    whole = top1(model)
    kept = kept_layers(model, settings.keep)
    for layers in coupled_layers(model, resolution, settings):
        done = {0.0}
        width = _width(model, layers[0])
        for ratio in ratios:
            pruned = without_channels(model, resolution, {layers[0]: ratio}, settings, kept)
            removed = round(1 - _width(pruned, layers[0]) / width, 4)
            if removed not in done:
                done.add(removed)
                reached = top1(pruned)
                yield {
                    "layers": layers,
                    "asked": ratio,
                    "ratio": removed,
                    "top1": reached,
                    "loss": round(whole - reached, 6),
                }


def curves_of(rows: Sequence[Row]) -> dict[str, Curve]:
    """Of each layer that stands for its group: shares with the accuracy that their removal costs."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        curves.setdefault(row["layers"][0], []).append((row["ratio"], row["loss"]))
    return dict(curves)


def _width(model: nn.Module, layer: str) -> int:
    module = model.get_submodule(layer)
    return module.out_channels if isinstance(module, nn.Conv2d) else module.out_features  # type: ignore[return-value]
