"""Layers that lose channels together, and those that keep theirs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
import torch_pruning
from torch import nn

from compress.models.heads import classifiers, layers_named
from compress.recipe.channels import Channels
from compress.utils.boundaries import boundary


def kept_layers(model: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """Find the layers that keep their channels: the classifiers, and those whose names match `patterns`."""
    return [*classifiers(model).values(), *layers_named(model, patterns).values()]


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


def width(model: nn.Module, layer: str) -> int:
    """Return the output channels of a layer."""
    return int(model.get_submodule(layer).weight.shape[0])  # type: ignore[index]
