"""How much of a network a runtime really executes in integer: convolutions, and MACs of convolutions and linears."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Coverage:
    """Operations that a runtime executes for one image."""

    integer_convs: int | None  # number of convolutions that run in integer; None where the runtime does not expose it
    convs: int  # number of all convolutions
    # multiply-accumulates of convolutions and linears that run in integer; None where the runtime does not expose it
    integer_macs: int | None = None
    # multiply-accumulates of all convolutions and linears, as `compress.measurement.compute` counts them; None where
    # the file does not have them
    macs: int | None = None

    @property
    def share(self) -> float | None:
        """Share of the MACs that run in integer; None where it is unknown."""
        return self.integer_macs / self.macs if self.macs and self.integer_macs is not None else None


def products(output: Sequence[int], weight: Sequence[int], channels: int) -> int:
    """Count the MACs of a convolution or linear: each output is a sum over the weights of one output channel.

    `output` is the shape for one image, in any order; the weight may be grouped or transposed.
    """
    return math.prod(output) * math.prod(weight) // channels
