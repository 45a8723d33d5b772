"""Layers that lose channels together, and those that keep theirs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from compress.measurement.compute import evaluating
from compress.models.heads import classifiers, layers_named
from compress.utils.boundaries import boundary
from compress.utils.errors import CompressError
from compress.utils.machine_faults import is_machine_fault

aten = torch.ops.aten
MAX_STEPS = 3_000  # of a layer's channels through the network, 1,300 in DenseNet-201
MAX_AT_ONCE, MAX_IN_ALL = 4, 200
"""Channels that are followed, in the channels of the widest layer: at most 2 and 55 in timm's smaller networks that
torch-pruning follows; the latter grows with their depth."""
_TOKEN_LAYERS = (aten.addmm.default, aten.mm.default, aten.native_layer_norm.default)  # with channels last


@dataclass(frozen=True)
class CoupledGroup:
    """Layers that lose channels together; the first of `layers` stands for them.

    Attributes:
        layers: Convolutions and linears whose outputs lose the channels.
        outputs: By module, how many of its outputs go if all channels go; normalisations too.
        inputs: By module, how many of its inputs go if all channels go.
        leaves: Weights that go if all channels go, by parameters outside of these modules, such as position embeddings.
    """

    layers: list[str] = field(default_factory=list)
    outputs: dict[str, int] = field(default_factory=dict)
    inputs: dict[str, int] = field(default_factory=dict)
    leaves: dict[nn.Parameter, int] = field(default_factory=dict)


def kept_layers(model: nn.Module, resolution: int, patterns: Sequence[str]) -> list[nn.Module]:
    """Find the layers that keep their channels: the classifiers, and those whose names match `patterns`."""
    return [*classifiers(model, resolution).values(), *layers_named(model, patterns).values()]


def coupled_groups(
    model: nn.Module, resolution: int, kept: Sequence[nn.Module]
) -> tuple[list[CoupledGroup], list[nn.Module]]:
    """Find the groups of layers that lose channels together, and the layers whose channels torch-pruning cannot follow.

    Groups with a layer that is `kept` are left out.

    Raises:
        CompressError: torch-pruning cannot trace this architecture, or follow the channels of any layer.
    """
    names = {module: name for name, module in model.named_modules()}
    groups: list[CoupledGroup] = []
    lost: list[nn.Module] = []
    seen = set(kept)
    with boundary("torch-pruning", type(model).__name__), warnings.catch_warnings():
        refuse_padded_channels(model, resolution)
        warnings.filterwarnings("ignore", "Unwrapped parameters")
        with evaluating(model):
            graph = torch_pruning.DependencyGraph().build_dependency(model, torch.zeros(1, 3, resolution, resolution))
        budget = _Budget(model)
        budget.watch(graph)
        failure = None
        for layer in [module for module in graph.module2node if isinstance(module, nn.Conv2d | nn.Linear)]:
            if layer in seen:
                continue
            budget.restart()
            try:
                group = _group(graph, layer, names)
            except Exception as error:
                if isinstance(error, TimeoutError) or is_machine_fault(error):
                    raise
                failure = failure or error
                lost.append(layer)
                continue
            members = {model.get_submodule(name) for name in group.layers}
            if members.isdisjoint(kept):
                groups.append(group)
            seen |= members
        if failure and not groups:
            raise failure
    missing = {names[layer] for layer in lost}
    return [group for group in groups if missing.isdisjoint(group.layers)], lost


def _group(graph: Any, layer: nn.Module, names: Mapping[nn.Module, str]) -> CoupledGroup:
    """Follow the outputs of a layer."""
    pruner, group = graph.get_pruner_of_module(layer), CoupledGroup()
    for item in graph.get_pruning_group(layer, pruner.prune_out_channels, list(range(pruner.get_out_channels(layer)))):
        module = item.dep.target.module
        if isinstance(module, nn.Parameter):
            group.leaves[module] = len(item.idxs) * module.numel() // module.shape[item.dep.target.pruning_dim]
        if module not in names:  # an operation, or such a parameter
            continue
        of_outputs = graph.is_out_channel_pruning_fn(item.dep.handler)
        (group.outputs if of_outputs else group.inputs)[names[module]] = len(item.idxs)
        if of_outputs and isinstance(module, nn.Conv2d | nn.Linear) and names[module] not in group.layers:
            group.layers.append(names[module])
    return group


class _Budget:
    """Bounds how far torch-pruning follows the channels of one layer.

    Of reshapes such as those of windows and attention heads, it multiplies channels without end, and where channels are
    split and joined over and over, it follows every path.
    """

    def __init__(self, model: nn.Module) -> None:
        layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        self.widest = max((max(layer.weight.shape[:2]) for layer in layers), default=0)
        self.steps = self.channels = 0

    def watch(self, graph: Any) -> None:
        """Bound what a dependency graph follows from now on."""
        for node in graph.module2node.values():
            for dependency in node.dependencies:
                dependency.index_mapping = _Mappings(dependency.index_mapping)
                dependency.index_mapping.budget = self

    def restart(self) -> None:
        """Begin with another layer."""
        self.steps = self.channels = 0

    def mapped(self, mapping: Callable[[Sequence[Any]], Sequence[Any]], channels: Sequence[Any]) -> Sequence[Any]:
        """Map channels to those of the next operation."""
        mapped = mapping(channels)
        self.steps += 1
        self.channels += len(mapped)
        too_many = len(mapped) > MAX_AT_ONCE * self.widest or self.channels > MAX_IN_ALL * self.widest
        if too_many or self.steps > MAX_STEPS:
            raise ValueError("it loses track of the channels")
        return mapped


class _Mappings(list[Any]):
    """Mappings of channels between two operations, which `budget` bounds."""

    budget: _Budget

    def __iter__(self) -> Iterator[Any]:
        return (mapping and partial(self.budget.mapped, mapping) for mapping in super().__iter__())


class _ChannelPads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Finds operators that pad channels: those of maps `[b, c, h, w]`, or of tokens `[b, n, c]` and `[b, h, w, c]`.

    Channels are the dimension with the width of the last layer that was run; where none or both have it, the second one
    after a convolution, and the last one after a linear or layer norm. Constants, which are joined with channels, are
    what has no gradient although the image has.
    """

    found = False
    _width, _first = 0, True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is aten.constant_pad_nd.default and args[0].ndim > 1:
            start = 2 * (args[0].ndim - 1 - self._channels(args[0]))  # pads are listed from the last dimension on
            self.found |= any(args[1][start : start + 2])
        elif func is aten.cat.default and args[0][0].ndim > 1:
            self.found |= self._joins_constants(*args)
        result = func(*args, **(kwargs or {}))
        if func is aten.convolution.default:
            self._width, self._first = result.shape[1], True
        elif func in _TOKEN_LAYERS:
            self._width, self._first = tree_leaves(result)[0].shape[-1], False
        return result

    def _joins_constants(self, parts: Sequence[Tensor], dim: int = 0) -> bool:
        made = [part.requires_grad for part in parts]
        joins_channels = dim % parts[0].ndim == self._channels(parts[made.index(max(made))])
        return joins_channels and made != sorted(made, reverse=True)  # at the end they shift no others

    def _channels(self, maps: Tensor) -> int:
        last = maps.ndim - 1
        fits_first, fits_last = maps.shape[1] == self._width, maps.shape[last] == self._width
        return 1 if (self._first if fits_first == fits_last else fits_first) else last


def refuse_padded_channels(model: nn.Module, resolution: int) -> None:
    """Refuse a network that pads channels: torch-pruning ignores where the padded ones are, and would mix up others.

    Raises:
        CompressError: it pads channels.
    """
    images = torch.zeros(1, 3, resolution, resolution, requires_grad=True)
    with evaluating(model), _ChannelPads() as pads:  # type: ignore[no-untyped-call]
        model(images.clone())  # some networks change their images in place, which a leaf does not allow
    if pads.found:
        raise CompressError(
            f"{type(model).__name__} pads channels, which torch-pruning cannot follow; use "
            "`kind: sparsify`, or a network without (cifar_resnet: `option: B`)"
        )


@torch.no_grad()
def output_shape(model: nn.Module, resolution: int) -> torch.Size:
    """Return the shape of a network's outputs for one image."""
    with evaluating(model):
        return model(torch.zeros(1, 3, resolution, resolution)).shape  # type: ignore[no-any-return]


def width(model: nn.Module, layer: str) -> int:
    """Return the output channels of a layer."""
    return int(model.get_submodule(layer).weight.shape[0])  # type: ignore[index]
