"""Precisions that a runtime really executes a network in: MACs of convolutions and linears, and conversions."""

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
    half_macs: int | None = 0  # of them those in half precision; None where the runtime does not expose it
    half: str = "fp16"  # which half precision that is
    casts: int | None = None  # conversions between floating-point types; None where the runtime does not expose them

    @property
    def precisions(self) -> dict[str, float] | None:
        """Share of the MACs by precision, without precisions that have none; None where it is unknown."""
        if not self.macs or self.integer_macs is None or self.half_macs is None:
            return None
        rest = self.macs - self.integer_macs - self.half_macs
        found = {"int8": self.integer_macs, self.half: self.half_macs, "fp32": max(0, rest)}
        return {name: macs / self.macs for name, macs in found.items() if macs}

    @property
    def share(self) -> float | None:
        """Share of the MACs that run in integer; None where it is unknown."""
        return self.integer_macs / self.macs if self.macs and self.integer_macs is not None else None


def products(output: Sequence[int], weight: Sequence[int], channels: int) -> int:
    """Count the MACs of a convolution or linear: each output is a sum over the weights of one output channel.

    `output` is the shape for one image, in any order; the weight may be grouped or transposed.
    """
    return math.prod(output) * math.prod(weight) // channels
