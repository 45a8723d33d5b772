"""How much of a network a runtime really executes in integer: convolutions, and MACs of convolutions and linears."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Coverage:
    """Operations that a runtime executes for one image.

    Attributes:
        integer_convs: Number of convolutions that run in integer; None where the runtime does not expose it.
        convs: Number of all convolutions.
        integer_macs: Multiply-accumulates of convolutions and linears that run in integer; None where the runtime does
            not expose it.
        macs: Multiply-accumulates of all convolutions and linears, as `compress.measurement.compute` counts them; None
            where the file does not have them.
    """

    integer_convs: int | None
    convs: int
    integer_macs: int | None = None
    macs: int | None = None

    @property
    def share(self) -> float | None:
        """Share of the MACs that run in integer; None where it is unknown."""
        return self.integer_macs / self.macs if self.macs and self.integer_macs is not None else None


def products(output: Sequence[int], weight: Sequence[int], channels: int) -> int:
    """Count the MACs of a convolution or linear: each output is a sum over the weights of one output channel.

    Args:
        output: Shape of the output for one image, with its dimensions in any order.
        weight: Shape of the weight, grouped or transposed or not.
        channels: Number of output channels or features.
    """
    return math.prod(output) * math.prod(weight) // channels
