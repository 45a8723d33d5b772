"""The compute gap: training compute that grows G times a year on hardware that grows H times a year.

The growth rates themselves, with basis and source, are in `configs/trends/`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

MIN_POINTS = 3
"""Two points are a line without a residual, and so without an interval."""

Ends = tuple[float, float]
_BISECTIONS = 80


@dataclass(frozen=True)
class Fit:
    """A growth that was fitted to points.

    Attributes:
        growth: Times a year.
        low: Lower end of its interval, times a year.
        high: Upper end, times a year.
        doubling_years: Years in which it doubles; None where it does not grow. Negative where it falls.
        points: How many points it is of.
        first: Year of the first one.
        last: Year of the last one.
    """

    growth: float
    low: float
    high: float
    doubling_years: float | None
    points: int
    first: float
    last: float


def fit_growth(years: Sequence[float], values: Sequence[float], confidence: float = 0.95) -> Fit:
    """Growth by least squares of log2(value) on the year, with the interval of Student's t for the slope.

    Args:
        years: [points], years with fractions.
        values: [points], positive, in any one unit.
        confidence: Two-sided confidence level, a fraction.

    Raises:
        ValueError: With fewer than 3 points, of one year only, or with a value that is not positive.
    """
    if len(years) != len(values) or len(values) < MIN_POINTS:
        raise ValueError(f"{len(values)} points are too few for a growth with an interval; {MIN_POINTS} are needed")
    if min(values) <= 0:
        raise ValueError(f"a value of {min(values)} has no logarithm")
    if min(years) == max(years):
        raise ValueError("points of one year have no growth")
    logs = [math.log2(value) for value in values]
    slope, intercept = statistics.linear_regression(years, logs)
    freedom, middle = len(logs) - 2, statistics.fmean(years)
    rest = sum((y - intercept - slope * x) ** 2 for x, y in zip(years, logs, strict=True))
    error = math.sqrt(rest / freedom / sum((x - middle) ** 2 for x in years))
    half = _student_t(freedom, confidence) * error
    return Fit(
        growth=2**slope,
        low=2 ** (slope - half),
        high=2 ** (slope + half),
        doubling_years=1 / slope if slope else None,
        points=len(logs),
        first=min(years),
        last=max(years),
    )


def _student_t(freedom: int, confidence: float) -> float:
    """The t within which so large a share of Student's distribution lies, by bisection."""
    low, high = 0.0, 1.0
    while _within(high, freedom) < confidence:
        high *= 2
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < confidence else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """Share of Student's distribution between -t and t (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    square, odd = math.cos(angle) ** 2, freedom % 2
    term = total = math.cos(angle) if odd and freedom > 1 else float(not odd)
    for k in range(2 + odd, freedom - 1, 2):
        term *= square * (k - 1) / k
        total += term
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total


def months_per_doubling(times: float, years: float) -> float:
    """Months per doubling of what became `times` as much within `years`: 12 years / log2(times).

    Raises:
        ValueError: When it did not grow, or no time has gone by.
    """
    if times <= 1 or years <= 0:
        raise ValueError(f"{times} times in {years} years is no growth")
    return 12 * years / math.log2(times)


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


def gap_interval(growth: float, growth_ends: Ends, hardware: float, hardware_ends: Ends, years: float) -> Ends:
    """Interval of the gap, from those of the two growths, which are taken as independent.

    On the log scale the distances of an end from the estimate add as squares, times the years: the lower end of the
    gap is of slower compute and faster hardware. It is of the same level as the two intervals.

    Args:
        growth: G, training compute's growth, times a year.
        growth_ends: Its interval.
        hardware: H, the hardware's growth, times a year.
        hardware_ends: Its interval.
        years: From the year at which both are level.

    Raises:
        ValueError: When a growth is not positive or not inside its interval.
    """
    for middle, (low, high) in ((growth, growth_ends), (hardware, hardware_ends)):
        if not 0 < low <= middle <= high:
            raise ValueError(f"a growth of {middle} is not inside its interval from {low} to {high}")
    slow = math.hypot(math.log(growth / growth_ends[0]), math.log(hardware_ends[1] / hardware))
    fast = math.hypot(math.log(growth_ends[1] / growth), math.log(hardware / hardware_ends[0]))
    center = math.log(growth / hardware)
    return math.exp(years * (center - slow)), math.exp(years * (center + fast))


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
