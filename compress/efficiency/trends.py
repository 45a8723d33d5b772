"""The compute gap: training compute that grows G times a year on hardware that grows H times a year.

The growth rates themselves, with basis and source, are in `configs/trends/`.
"""

from __future__ import annotations

import math


def growth_from_doubling_time(years: float) -> float:
    """Growth, times a year, of what doubles in so many years: 2 ** (1 / years).

    Raises:
        ValueError: When the time is not positive.
    """
    if years <= 0:
        raise ValueError(f"nothing doubles in {years} years")
    return float(2 ** (1 / years))


def gap(growth: float, hardware: float, start: float, end: float) -> float:
    """How many times further compute grew than hardware did between two years: (G / H) ** (end - start).

    Args:
        growth: G, training compute's growth, times a year.
        hardware: H, the hardware's growth, times a year.
        start: First year, at which both are level.
        end: Last year.

    Raises:
        ValueError: When a growth is not positive.
    """
    if growth <= 0 or hardware <= 0:
        raise ValueError(f"growths of {growth} and {hardware} times a year cannot be")
    return float((growth / hardware) ** (end - start))


def years_to_catch_up(growth: float, hardware: float, start: float, end: float) -> float:
    """Years that hardware alone needs to close the gap of two years, were compute to stand still: ln(gap) / ln(H).

    Args:
        growth: G, training compute's growth, times a year.
        hardware: H, the hardware's growth, times a year, > 1.
        start: First year, at which both are level.
        end: Last year.

    Raises:
        ValueError: When hardware does not grow, and so never catches up.
    """
    if hardware <= 1:
        raise ValueError(f"hardware that grows {hardware} times a year never catches up")
    return math.log(gap(growth, hardware, start, end)) / math.log(hardware)


def holding_rate(growth: float, hardware: float) -> float:
    """Efficiency gain, times a year and every year, that holds the gap where it is: G / H (3.03 on the FP32 basis).

    Raises:
        ValueError: When a growth is not positive.
    """
    return gap(growth, hardware, 0, 1)
