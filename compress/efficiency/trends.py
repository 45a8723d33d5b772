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
MAX_DOUBLINGS = 1000.0  # a year, above which a growth is no number

Ends = tuple[float, float]
_BISECTIONS = 80


@dataclass(frozen=True)
class Fit:
    """Exponential growth fitted to points.

    Attributes:
        growth: Factor per year.
        low: Lower end of its interval.
        high: Upper end of its interval.
        doubling_years: Doubling time in years; None where it does not grow, negative where it falls.
        points: Number of points.
        first: Year of the first point.
        last: Year of the last point.
    """

    growth: float
    low: float
    high: float
    doubling_years: float | None
    points: int
    first: float
    last: float


def fit_growth(years: Sequence[float], values: Sequence[float], confidence: float = 0.95) -> Fit:
    """Fit growth by least squares of log2(value) on the year, with the interval of Student's t for the slope.

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
        raise ValueError(f"values must be positive, not {min(values)}")
    if min(years) == max(years):
        raise ValueError("a growth fit needs points from at least two years")
    logs = [math.log2(value) for value in values]
    slope, intercept = statistics.linear_regression(years, logs)
    freedom, middle = len(logs) - 2, statistics.fmean(years)
    rest = sum((y - intercept - slope * x) ** 2 for x, y in zip(years, logs, strict=True))
    error = math.sqrt(rest / freedom / sum((x - middle) ** 2 for x in years))
    half = _student_t(freedom, confidence) * error
    if abs(slope) + half > MAX_DOUBLINGS:
        raise ValueError("the points are too close together in time for a growth")
    return Fit(
        growth=2**slope,
        low=2 ** (slope - half),
        high=2 ** (slope + half),
        doubling_years=1 / slope if slope else None,
        points=len(logs),
        first=min(years),
        last=max(years),
    )


def geometric_mean(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Compute the geometric mean of positive values and its interval of Student's t on the log scale.

    Returns:
        Mean, lower and upper end.

    Raises:
        ValueError: With fewer than 3 values, or with one that is not positive.
    """
    if len(values) < MIN_POINTS or min(values) <= 0:
        raise ValueError(f"a mean with an interval needs {MIN_POINTS} positive values, not {len(values)}")
    logs = [math.log2(value) for value in values]
    mean, freedom = statistics.fmean(logs), len(logs) - 1
    half = _student_t(freedom, confidence) * statistics.stdev(logs) / math.sqrt(len(logs))
    return 2**mean, 2 ** (mean - half), 2 ** (mean + half)


def _student_t(freedom: int, confidence: float) -> float:
    """Two-sided quantile of Student's t distribution, by bisection."""
    low, high = 0.0, 1.0
    while _within(high, freedom) < confidence:
        high *= 2
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < confidence else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """Probability of Student's t distribution between -t and t (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    square, odd = math.cos(angle) ** 2, freedom % 2
    term = total = math.cos(angle) if odd and freedom > 1 else float(not odd)
    for k in range(2 + odd, freedom - 1, 2):
        term *= square * (k - 1) / k
        total += term
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total


def months_per_doubling(times: float, years: float) -> float:
    """Compute the months per doubling of a quantity that grew by a factor within some years: 12 years / log2(times).

    Raises:
        ValueError: When the factor is not greater than 1, or the years are not positive.
    """
    if times <= 1 or years <= 0:
        raise ValueError(f"factor must be greater than 1 and years positive, not {times} and {years}")
    return 12 * years / math.log2(times)


def gap(growth: float, hardware: float, start: float, end: float) -> float:
    """Compute the gap, by which factor compute outgrew hardware between two years: (G / H) ** (end - start).

    Args:
        growth: G, growth of training compute, factor per year.
        hardware: H, growth of hardware, factor per year.
        start: First year, at which both are level.
        end: Last year.

    Raises:
        ValueError: When a growth is not positive.
    """
    if growth <= 0 or hardware <= 0:
        raise ValueError(f"both growths must be positive, not {growth} and {hardware}")
    return float((growth / hardware) ** (end - start))


def gap_interval(growth: float, growth_ends: Ends, hardware: float, hardware_ends: Ends, years: float) -> Ends:
    """Compute the interval of the gap from those of the two growths, which are taken as independent.

    On the log scale the distances of an end from the estimate add in quadrature, times the years: the lower end of the
    gap has slower compute and faster hardware. Its level is that of the two intervals.

    Args:
        growth: G, growth of training compute, factor per year.
        growth_ends: Its interval.
        hardware: H, growth of hardware, factor per year.
        hardware_ends: Its interval.
        years: Years since both were level.

    Raises:
        ValueError: When a growth is not positive or not inside its interval.
    """
    for middle, (low, high) in ((growth, growth_ends), (hardware, hardware_ends)):
        if not 0 < low <= middle <= high:
            raise ValueError(f"growth must be positive and inside its interval, not {middle} in {low} to {high}")
    slow = math.hypot(math.log(growth / growth_ends[0]), math.log(hardware_ends[1] / hardware))
    fast = math.hypot(math.log(growth_ends[1] / growth), math.log(hardware / hardware_ends[0]))
    center = math.log(growth / hardware)
    return math.exp(years * (center - slow)), math.exp(years * (center + fast))


def years_to_catch_up(growth: float, hardware: float, start: float, end: float) -> float:
    """Compute the years that hardware needs to close the gap if compute stood still: ln(gap) / ln(H).

    Args:
        growth: G, growth of training compute, factor per year.
        hardware: H, growth of hardware, factor per year, greater than 1.
        start: First year, at which both are level.
        end: Last year.

    Raises:
        ValueError: When hardware does not grow and never catches up.
    """
    if hardware <= 1:
        raise ValueError(f"hardware growth must be greater than 1 to catch up, not {hardware}")
    return math.log(gap(growth, hardware, start, end)) / math.log(hardware)


def holding_rate(growth: float, hardware: float) -> float:
    """Compute the efficiency gain, factor per year and every year, that holds the gap: G / H (3.03 on the FP32 basis).

    Raises:
        ValueError: When a growth is not positive.
    """
    return gap(growth, hardware, 0, 1)
