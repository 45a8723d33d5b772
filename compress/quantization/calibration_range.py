"""How far the ranges of a calibration set depend on its images, from the extremes of single images."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median


def expected_maximum(values: Sequence[float], drawn: int) -> float:
    """Return the expected maximum of `drawn` of the values, drawn without replacement.

    The k-th largest of n values is the maximum of the draw with probability C(n - k, drawn - 1) / C(n, drawn).
    """
    total, left = len(values), sorted(values, reverse=True)
    if not 1 <= drawn <= total:
        raise ValueError(f"cannot draw {drawn} of {total} values")
    expected, share = 0.0, drawn / total  # of the largest
    for k, value in enumerate(left, 1):
        expected += share * value
        if k + drawn > total:
            break
        share *= (total - k - drawn + 1) / (total - k)
    return expected


def expected_range(lows: Sequence[float], highs: Sequence[float]) -> float | None:
    """Return the width of the range that a random half of the images finds, as a share of that of all.

    Args:
        lows: Smallest value by image.
        highs: Largest value by image.

    Returns:
        The expected share; None for a single image, or where the range has no width.
    """
    width, half = max(highs) - min(lows), len(highs) // 2
    if not half or not width:
        return None
    found = expected_maximum(highs, half) + expected_maximum([-low for low in lows], half)
    return min(max(found / width, 0.0), 1.0)


def spread(channels: Sequence[float]) -> float | None:
    """Return the largest magnitude of any channel as a multiple of the median channel's; None without a median."""
    middle = median(channels)
    return max(channels) / middle if middle else None
