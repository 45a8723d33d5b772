"""Fits of growth and the interval of a gap, against other ways to the same figures and against known truth."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats

from compress.efficiency.trends import (
    _student_t,
    fit_growth,
    gap,
    gap_interval,
    geometric_mean,
    months_per_doubling,
)


def test_a_line_without_noise_is_found() -> None:
    fit = fit_growth([2010, 2012, 2013, 2020], [1, 4, 8, 1024])
    assert fit.growth == pytest.approx(2) and fit.doubling_years == pytest.approx(1)
    assert (fit.low, fit.high) == pytest.approx((2, 2))
    assert (fit.points, fit.first, fit.last) == (4, 2010, 2020)


def test_slope_and_interval_are_those_of_another_implementation() -> None:
    rng = random.Random(5)
    years = [rng.uniform(2010, 2024) for _ in range(17)]
    values = [1e18 * 4.1 ** (year - 2010) * rng.lognormvariate(0, 2) for year in years]
    fit = fit_growth(years, values)
    other = stats.linregress(years, [math.log2(value) for value in values])
    half = stats.t.ppf(0.975, 15) * other.stderr
    assert fit.growth == pytest.approx(2**other.slope)
    assert (fit.low, fit.high) == pytest.approx((2 ** (other.slope - half), 2 ** (other.slope + half)))


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 10, 29, 44, 400, 1001])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
def test_students_t(freedom: int, confidence: float) -> None:
    assert _student_t(freedom, confidence) == pytest.approx(stats.t.ppf((1 + confidence) / 2, freedom), rel=1e-9)


def test_intervals_of_growth_cover_the_truth() -> None:
    rng = random.Random(1)
    years = [2010 + 0.7 * n for n in range(12)]
    covered = 0
    for _ in range(2000):
        fit = fit_growth(years, [3.0 ** (year - 2010) * rng.lognormvariate(0, 1) for year in years])
        covered += fit.low <= 3.0 <= fit.high
    assert 0.93 <= covered / 2000 <= 0.97


def test_what_does_not_grow_has_no_doubling_time() -> None:
    assert fit_growth([2010, 2011, 2012], [5, 5, 5]).doubling_years is None
    falling = fit_growth([2010, 2011, 2012], [4, 2, 1])
    assert falling.growth == pytest.approx(0.5) and falling.doubling_years == pytest.approx(-1)


@pytest.mark.parametrize(
    ("years", "values"),
    [([2010, 2011], [1, 2]), ([2010, 2010, 2010], [1, 2, 3]), ([2010, 2011, 2012], [1, 0, 2]), ([2010], [1, 2, 3])],
)
def test_points_that_give_no_growth_are_refused(years: list[float], values: list[float]) -> None:
    with pytest.raises(ValueError):
        fit_growth(years, values)


def test_interval_of_the_gap() -> None:
    low, high = gap_interval(4.1, (3.7, 4.6), 1.35, (1.31, 1.40), 12)
    middle = gap(4.1, 1.35, 2012, 2024)
    assert low < middle < high
    # Narrower than the worst of both at once, wider than that of compute alone.
    assert (3.7 / 1.40) ** 12 < low < (3.7 / 1.35) ** 12
    assert (4.6 / 1.35) ** 12 < high < (4.6 / 1.31) ** 12
    assert gap_interval(4.1, (4.1, 4.1), 1.35, (1.35, 1.35), 12) == pytest.approx((middle, middle))
    with pytest.raises(ValueError):
        gap_interval(4.1, (4.2, 4.6), 1.35, (1.31, 1.40), 12)


def test_interval_of_the_gap_covers_the_truth() -> None:
    """Both growths drawn around the truth with a known error, each with its 95% interval."""
    rng, covered, spread = random.Random(2), 0, (0.10, 0.04)
    truth = gap(4.1, 1.35, 0, 12)
    for _ in range(4000):
        g, h = 4.1 * rng.lognormvariate(0, spread[0]), 1.35 * rng.lognormvariate(0, spread[1])
        ends = [(x * math.exp(-1.96 * s), x * math.exp(1.96 * s)) for x, s in ((g, spread[0]), (h, spread[1]))]
        low, high = gap_interval(g, ends[0], h, ends[1], 12)
        covered += low <= truth <= high
    assert 0.93 <= covered / 4000 <= 0.97


def test_months_per_doubling() -> None:
    assert months_per_doubling(4, 2) == 12
    for times, years in ((1, 2), (0.5, 2), (4, 0)):
        with pytest.raises(ValueError):
            months_per_doubling(times, years)


def test_geometric_mean_is_that_of_another_implementation() -> None:
    rng = random.Random(3)
    values = [8 * rng.lognormvariate(0, 1) for _ in range(20)]
    logs = [math.log(value) for value in values]
    low, high = stats.t.interval(0.95, 19, loc=sum(logs) / 20, scale=stats.sem(logs))
    assert geometric_mean(values) == pytest.approx((stats.gmean(values), math.exp(low), math.exp(high)))
    for few in ([1, 2], [1, 2, 0]):
        with pytest.raises(ValueError):
            geometric_mean(few)


def test_points_within_days_have_no_growth() -> None:
    """Its interval would end at more than a float holds."""
    with pytest.raises(ValueError, match="too close together in time for a growth"):
        fit_growth([2020.0, 2020.005, 2020.01], [1e20, 1e25, 1e21], 0.95)
