"""MACs and parameters of a network by the channels that its layers keep, without making the narrower network.

A search asks for the cost of dozens of networks. Making one, and running an image through it to count, takes a third of
a second for ResNet18.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from compress.measurement.compute import count, parameters
from compress.pruning.groups import CoupledGroup, width

Widths = Mapping[str, int]
"""Output channels by the layer that stands for its coupled group."""


@dataclass(frozen=True)
class WidthCosts:
    """The cost of a network without grouped convolutions.

    Attributes:
        modules: Those that lose channels, by name.
        macs: MACs by layer of the network with all channels; by module for products of activations.
        products: By module with such products, the layer whose channels they have; without one, they stay as they are.
        parameters: Parameters of the network with all channels.
        plain: Whether there are no such products, and no layer norms.
    """

    modules: Mapping[str, nn.Module]
    groups: Sequence[CoupledGroup]
    full: Widths
    macs: Mapping[str, int]
    products: Mapping[str, str]
    parameters: int
    plain: bool

    @classmethod
    def of(cls, model: nn.Module, resolution: int, groups: Sequence[CoupledGroup]) -> WidthCosts | None:
        """Return the costs of `model`, or None where groups of channels or operators of unknown cost have a part."""
        if any(isinstance(module, nn.GroupNorm) or _grouped(module) for module in model.modules()):
            return None
        counted = count(model, resolution)
        layers = {name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
        names = {name for group in groups for name in (*group.outputs, *group.inputs)}
        modules = {name: model.get_submodule(name) for name in names}
        known = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.LayerNorm)
        if counted.uncounted:
            return None
        inner = {name: _inner(name, groups) for name in counted.layers.keys() - layers}
        products = {name: layer for name, layer in inner.items() if layer}
        plain = not inner and not any(isinstance(module, nn.LayerNorm) for module in modules.values())
        if not all(isinstance(module, known) or not list(module.parameters()) for module in modules.values()):
            return None
        return cls(modules, groups, widths_of(model, groups), counted.layers, products, parameters(model), plain)

    def macs_of(self, widths: Widths) -> int:
        """Return the MACs of the network with these widths."""
        outputs, inputs = self._removed(widths)
        total = sum(self.macs.values())
        for name in outputs.keys() | inputs.keys():
            if dense := self.macs.get(name, 0):
                weights, kept = _weights(self.modules[name], outputs[name], inputs[name])
                total += dense * kept // weights - dense
        for name, layer in self.products.items():
            dense = self.macs[name]
            total += dense * widths[layer] // self.full[layer] - dense
        return total

    def parameters_of(self, widths: Widths) -> int:
        """Return the parameters of the network with these widths."""
        outputs, inputs = self._removed(widths)
        total = self.parameters
        for name in outputs.keys() | inputs.keys():
            own = dict(self.modules[name].named_parameters(recurse=False))
            if "weight" in own:
                weights, kept = _weights(self.modules[name], outputs[name], inputs[name])
                total += kept - weights
            if "bias" in own:
                total -= outputs[name]
        for group in self.groups:
            total -= sum(self._lost(group, widths, weights) for weights in group.leaves.values())
        return total

    def _removed(self, widths: Widths) -> tuple[Counter[str], Counter[str]]:
        """Return how many outputs and inputs each module loses."""
        outputs, inputs = Counter[str](), Counter[str]()
        for group in self.groups:
            for counts, shares in ((outputs, group.outputs), (inputs, group.inputs)):
                for name, channels in shares.items():
                    counts[name] += self._lost(group, widths, channels)
        return outputs, inputs

    def _lost(self, group: CoupledGroup, widths: Widths, most: int) -> int:
        """Return how many go of `most`, which go if the group loses all channels."""
        full = self.full[group.layers[0]]
        return (full - widths[group.layers[0]]) * most // full


def widths_of(model: nn.Module, groups: Sequence[CoupledGroup]) -> dict[str, int]:
    """Return the output channels of the first layer of each group."""
    return {group.layers[0]: width(model, group.layers[0]) for group in groups}


def _inner(module: str, groups: Sequence[CoupledGroup]) -> str | None:
    """Find the layer of a module, such as `qkv` of an attention, whose channels alone come and go inside of it."""
    inside = [
        group for group in groups if all(name.startswith(f"{module}.") for name in (*group.outputs, *group.inputs))
    ]
    return inside[0].layers[0] if len(inside) == 1 else None


def _grouped(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.groups != 1 and not _depthwise(module)


def _depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels == module.out_channels > 1


def _weights(module: nn.Module, outputs: int, inputs: int) -> tuple[int, int]:
    """Return a module's weights, and how many are left without so many outputs and inputs."""
    if isinstance(module, nn.Conv2d) and not _depthwise(module):
        size = module.kernel_size[0] * module.kernel_size[1]
        rows, columns = module.out_channels, module.in_channels
    elif isinstance(module, nn.Linear):
        size, rows, columns = 1, module.out_features, module.in_features
    else:
        # A depthwise convolution or a batch norm, which have an input for each output.
        weight = cast(Tensor, module.weight)
        size, rows, columns, inputs = weight[0].numel(), len(weight), 1, 0
    return size * rows * columns, size * (rows - outputs) * (columns - inputs)
