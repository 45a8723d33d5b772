"""Random numbers of views: a hash of (seed, image index, view number, number of the draw) instead of a running state.

splitmix64 (Steele, Lea & Flood 2014, doi 10.1145/2714064.2660195) used as a counter-based generator, in int64 that
wraps around, so that devices, threads and batches cannot differ.
"""

from __future__ import annotations

from enum import IntEnum

from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15
FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
ONE = 1 << 16  # 1.0 as a fixed-point number
BITS = 24  # random bits per draw


class Draw(IntEnum):
    """Numbers of the draws. Cached teacher embeddings depend on them: they never change."""

    DOWN = 0
    RIGHT = 1
    FLIP = 2
    BRIGHTNESS = 3
    CONTRAST = 4
    SATURATION = 5
    HUE = 6
    GRAYSCALE = 7
    BLUR = 8
    SIGMA = 9
    ROTATION = 10
    ERASING = 11
    AUGMENT = 100  # and three per operation: which, how much, in which direction
    CROP = 200  # and two per attempt, then the place
    ERASED = 300  # likewise


class Draws:
    """The random numbers of one view of each image.

    Args:
        indices: int64 `[b]`, on the device on which the numbers are wanted.
    """

    def __init__(self, indices: Tensor, view: int, seed: int) -> None:
        start = _mix_int(_mix_int(seed + GOLDEN) + view)
        self.states = _mix(_mix(indices + _signed(GOLDEN)) + _signed(start))

    def bits(self, number: int | Tensor) -> Tensor:
        """Return BITS random bits per image, independent for each number; int64 `[b]`, `[b, n]` for n numbers."""
        if isinstance(number, Tensor):
            return _shifted(_mix(self.states[:, None] + number * _signed(GOLDEN)), 64 - BITS)
        return _shifted(_mix(self.states + _signed(number * GOLDEN)), 64 - BITS)

    def below(self, number: int | Tensor, count: int | Tensor) -> Tensor:
        """Return a uniform integer from 0 to count - 1 per image, int64 `[b]`, `[b, n]` for n numbers."""
        return (self.bits(number) * count) >> BITS

    def between(self, number: int, largest: int) -> Tensor:
        """Return a uniform integer from -largest to largest per image, int64 `[b]`."""
        return self.below(number, 2 * largest + 1) - largest

    def factor(self, number: int, largest: float) -> Tensor:
        """Return a factor from 1 - largest to 1 + largest per image, in units of 1/ONE; int64 `[b]`."""
        return ONE + self.between(number, round(largest * ONE))

    def chance(self, number: int, probability: float) -> Tensor:
        """Return True with a probability, bool `[b]`."""
        return self.bits(number) < round(probability * (1 << BITS))


def _mix(values: Tensor) -> Tensor:
    """splitmix64's finisher, on int64 that wraps around."""
    values = (values ^ _shifted(values, 30)) * _signed(FACTORS[0])
    values = (values ^ _shifted(values, 27)) * _signed(FACTORS[1])
    return values ^ _shifted(values, 31)


def _mix_int(value: int) -> int:
    value &= 2**64 - 1
    value = (value ^ (value >> 30)) * FACTORS[0] % 2**64
    value = (value ^ (value >> 27)) * FACTORS[1] % 2**64
    return value ^ (value >> 31)


def _shifted(values: Tensor, bits: int) -> Tensor:
    """Shift right without the sign, which torch's int64 has."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    """The int64 with the same 64 bits."""
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value
