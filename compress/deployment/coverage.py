"""How much of a network really runs in integer in a runtime: convolutions, and MACs of convolutions and linears."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Coverage:
    """What a runtime executes, of one image.

    Attributes:
        integer_convs: Convolutions that run in integer; None where the runtime does not tell.
        convs: All convolutions.
        integer_macs: Multiply-accumulates of convolutions and linears that run in integer; None where the runtime does
            not tell.
        macs: Those of all convolutions and linears, as `compress.measurement.compute` counts them; None where the file
            does not tell.
    """

    integer_convs: int | None
    convs: int
    integer_macs: int | None = None
    macs: int | None = None

    @property
    def share(self) -> float | None:
        """Share of the MACs that run in integer; None where it is not known."""
        return self.integer_macs / self.macs if self.macs and self.integer_macs is not None else None


def products(output: Sequence[int], weight: Sequence[int], channels: int) -> int:
    """MACs of a convolution or linear: each of its outputs adds up the weights of one channel.

    Args:
        output: Shape of what comes out, for one image; in which order its dimensions lie does not matter.
        weight: Shape of the weight, groups and transposition included.
        channels: Output channels, or features.
    """
    return math.prod(output) * math.prod(weight) // channels
