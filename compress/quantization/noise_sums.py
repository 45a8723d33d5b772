"""The integers of a layer's input, and sums of a layer's errors over images."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class QuantizedInput:
    """A layer whose input is rounded to integers."""

    name: str  # of its module in the float network
    scale: float
    zero_point: int
    lowest: int  # smallest integer
    highest: int  # largest integer

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest value that its input can have in integers."""
        return (self.lowest - self.zero_point) * self.scale, (self.highest - self.zero_point) * self.scale

    def integers(self, given: Tensor) -> Tensor:
        """Return the integers that an input would have if there were no smallest and largest one."""
        return torch.round(given / self.scale) + self.zero_point

    def rounded(self, given: Tensor) -> Tensor:
        """Return an input after rounding to integers and back."""
        return (self.integers(given).clamp_(self.lowest, self.highest) - self.zero_point) * self.scale


@dataclass(frozen=True)
class LayerErrors:
    """Outputs of a layer that differ from that of the float network."""

    alone: Tensor  # of the quantized layer, from the float network's input
    by_input: Tensor  # of the float layer, from that input rounded
    network: Tensor  # in the quantized network


@dataclass(frozen=True)
class LayerRun:
    """A layer in the float network, on a batch of images."""

    given: Tensor
    output: Tensor
    errors: LayerErrors | None  # None where they are not asked for
    convolves: bool  # else it is linear, over the last dimension

    @property
    def channel(self) -> int:
        """Dimension of the input that holds the channels."""
        return 1 if self.convolves else self.given.ndim - 1


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

    def add_input(self, layer: QuantizedInput, given: Tensor) -> None:
        """Add the errors that rounding makes in an input."""
        integers = layer.integers(given)
        clamped = given.clamp(*layer.range)
        self.images += len(given)
        self.values += given.numel()
        self.saturated += int(((integers < layer.lowest) | (integers > layer.highest)).sum())
        self.signal += squares(given)
        self.clipping += squares(given - clamped)
        self.rounding += squares(clamped - layer.rounded(given))

    def add_errors(self, output: Tensor, errors: LayerErrors) -> None:
        """Add the errors of an output."""
        self.output += squares(output)
        self.alone += squares(output - errors.alone)
        self.by_input += squares(output - errors.by_input)
        self.network += squares(output - errors.network)

    def extremes(self, values: Tensor, channel: int) -> None:
        """Add the extremes of an input `[b, ...]`."""
        low, high = values.flatten(1).aminmax(dim=1)
        self.lows += low.tolist()
        self.highs += high.tolist()
        largest = values.detach().abs().transpose(0, channel).flatten(1).amax(1)
        self.channels = largest if self.channels is None else torch.maximum(self.channels, largest)


def squares(values: Tensor) -> float:
    """Return the sum of the squares of values."""
    flat = values.detach().flatten()
    return float(torch.dot(flat, flat))


def ratio(error: float, signal: float) -> float:
    """Return the squares of an error relative to those of its signal; 0 without a signal."""
    return error / signal if signal else 0.0
