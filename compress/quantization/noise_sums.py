"""Quantized layers of a PT2E graph, and sums of their errors over images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from compress.quantization.capture import is_dequantize, is_quantized, layer_nodes, ops


@dataclass(frozen=True)
class QuantizedLayer:
    """A layer of a quantized graph, and the integers of its input."""

    name: str  # of its module in the float network
    node: Node  # its convolution or linear in the quantized graph
    quantize: Node  # node that makes its input integer
    scale: float
    zero_point: int
    lowest: int  # smallest integer
    highest: int  # largest integer

    @property
    def operands(self) -> tuple[int, int]:
        """Positions of input and weight among the arguments; those of `addmm` start with the bias."""
        return (1, 2) if self.node.target == ops.addmm.default else (0, 1)

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest value that its input can have in integers."""
        return (self.lowest - self.zero_point) * self.scale, (self.highest - self.zero_point) * self.scale

    def call(self, arguments: Sequence[Any], given: Tensor, weight: Tensor) -> Tensor:
        """Compute the layer with other input and weight."""
        own, (place, weight_place) = list(arguments), self.operands
        own[place], own[weight_place] = given, weight
        assert callable(self.node.target)
        output: Tensor = self.node.target(*own)
        return output


@dataclass
class Sums:
    """Sums over the images of one set, of one layer."""

    values: int = 0  # of its input
    saturated: int = 0
    images: int = 0
    outside: int = 0  # values outside of the extremes on the calibration set
    outside_images: int = 0  # images with such values
    signal: float = 0.0  # squares of the input, of its error by saturation and of its error by rounding
    clipping: float = 0.0
    rounding: float = 0.0
    output: float = 0.0  # squares of the output, of its errors alone, by its input only, and in the quantized network
    alone: float = 0.0
    by_input: float = 0.0
    network: float = 0.0
    lows: list[float] = field(default_factory=list)  # by image
    highs: list[float] = field(default_factory=list)
    channels: Tensor | None = None  # largest magnitude by input channel, [channels]

    @property
    def input_error(self) -> float:
        """Squared error of the input, relative to its squares."""
        return ratio(self.clipping + self.rounding, self.signal)

    def beyond(self, given: Tensor, low: float, high: float) -> None:
        """Add what of an input `[b, ...]` is outside of a range."""
        found = ((given < low) | (given > high)).flatten(1)
        self.outside += int(found.sum())
        self.outside_images += int(found.any(1).sum())

    def rounded(self, layer: QuantizedLayer, given: Tensor) -> Tensor:
        """Add the errors of an input, and return it after rounding to the integers of the layer and back."""
        integers = torch.round(given / layer.scale) + layer.zero_point
        saturated = (integers < layer.lowest) | (integers > layer.highest)
        rounded = (integers.clamp_(layer.lowest, layer.highest) - layer.zero_point) * layer.scale
        clamped = given.clamp(*layer.range)
        self.images += len(given)
        self.values += given.numel()
        self.saturated += int(saturated.sum())
        self.signal += squares(given)
        self.clipping += squares(given - clamped)
        self.rounding += squares(clamped - rounded)
        return rounded

    def extremes(self, values: Tensor, channel: int) -> None:
        """Add the extremes of an input `[b, ...]`."""
        low, high = values.flatten(1).aminmax(dim=1)
        self.lows += low.tolist()
        self.highs += high.tolist()
        largest = values.detach().abs().transpose(0, channel).flatten(1).amax(1)
        self.channels = largest if self.channels is None else torch.maximum(self.channels, largest)


def quantized_layers(graph: GraphModule) -> list[tuple[int, QuantizedLayer]]:
    """List the quantized layers of a PT2E graph, with their positions among all convolutions and linears."""
    found = []
    for position, (node, name) in enumerate(layer_nodes(graph)):
        given = node.args[1 if node.target == ops.addmm.default else 0]
        if is_quantized(node) and is_dequantize(given) and "per_tensor.default" in str(getattr(given, "target", "")):
            assert isinstance(given, Node)
            quantize, *numbers = given.args
            assert isinstance(quantize, Node)
            scale, zero, low, high, *_ = list[Any](numbers)
            found.append((position, QuantizedLayer(name, node, quantize, float(scale), int(zero), int(low), int(high))))
    return found


def squares(values: Tensor) -> float:
    """Return the sum of the squares of values."""
    flat = values.detach().flatten()
    return float(torch.dot(flat, flat))


def ratio(error: float, signal: float) -> float:
    """Return the squares of an error relative to those of its signal; 0 without a signal."""
    return error / signal if signal else 0.0
