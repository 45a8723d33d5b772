"""When a curve reaches an accuracy: hand-computed brackets, properties, and the bootstrap over images."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_factory import training

from compress.efficiency.curves import Curve, Reached, curve, earliest, measured_curves, reach
from compress.efficiency.training import Comparison, compare_curves
from compress.measurement.accuracy import bits
from compress.results import CurvePoint

curves = st.lists(
    st.tuples(st.integers(1, 10**15), st.integers(0, 1000)), min_size=1, max_size=12, unique_by=lambda point: point[0]
).map(lambda points: curve([(macs, top1 / 1000) for macs, top1 in points]))
accuracies = st.integers(0, 1000).map(lambda top1: top1 / 1000)


def at(curve: Curve, top1: float, *, stays: bool = False) -> tuple[float, float, float]:
    found = reach(curve, np.array([top1]), stays=stays)
    return float(found.low[0]), float(found.macs[0]), float(found.high[0])


def compared(baseline: Curve, variant: Curve, top1: float, extra: float = 0.0) -> Comparison:
    base, own = (reach(each, np.array([top1])) for each in (baseline, variant))
    return compare_curves(base, own, extra)


def test_compute_is_interpolated_in_its_logarithm() -> None:
    points = curve([(10, 0.3), (40, 0.5), (80, 0.6)])
    assert at(points, 0.4) == pytest.approx((10, 20, 40))  # halfway in accuracy: the geometric mean
    assert at(points, 0.5) == (10, 40, 40)
    assert at(points, 0.55) == pytest.approx((40, 40 * math.sqrt(2), 80))


def test_first_point_gives_a_bracket_and_no_figure() -> None:
    assert at(curve([(10, 0.3)]), 0.2) == pytest.approx((0, math.nan, 10), nan_ok=True)
    assert at(curve([(10, 0.3)], floor=7), 0.2) == pytest.approx((7, math.nan, 10), nan_ok=True)
    assert at(curve([(10, 0.3)]), 0.4) == pytest.approx((10, math.nan, math.inf), nan_ok=True)


def test_passing_peak_counts_unless_the_curve_must_stay() -> None:
    points = curve([(10, 0.3), (20, 0.55), (30, 0.4), (40, 0.6)])
    assert at(points, 0.5)[::2] == (10, 20)
    assert at(points, 0.5, stays=True)[::2] == (30, 40)
    assert at(curve([(10, 0.6), (20, 0.4)]), 0.5, stays=True) == pytest.approx((20, math.nan, math.inf), nan_ok=True)


def test_best_of_several_schedules_counts() -> None:
    short, long = curve([(5, 0.3), (10, 0.5)], "short"), curve([(5, 0.1), (10, 0.2), (20, 0.5), (40, 0.7)], "long")
    for target, name in ((0.5, "short"), (0.6, "long"), (0.9, "long")):
        found, index = earliest([short, long], np.array([target]))
        assert (short, long)[index].id == name
        own = reach((short, long)[index], np.array([target]))
        assert (found.low, found.high) == (own.low, own.high)


def test_doublings_by_hand() -> None:
    slow, fast = curve([(10, 0.3), (40, 0.5)]), curve([(2, 0.3), (8, 0.5)])
    found = compared(slow, fast, 0.4)  # 20 against 4
    assert found.doublings == pytest.approx(math.log2(5)) and found.censored is None
    assert found.bracket == pytest.approx((math.log2(10 / 8), math.log2(40 / 2)))
    assert compared(slow, fast, 0.4, extra=16).doublings == pytest.approx(0)
    bound = compared(slow, curve([(20, 0.3), (160, 0.6)]), 0.6)  # at least 40 against 160
    assert (bound.doublings, bound.censored, bound.bracket) == (-2, "baseline", (-2, None))
    late = compared(curve([(1, 0.1), (20, 0.6)]), curve([(20, 0.3), (160, 0.5)]), 0.6)  # 20 against more than 160
    assert (late.doublings, late.censored, late.bracket[0]) == (-3, "variant", None)
    neither = compared(slow, fast, 0.9)
    assert (neither.doublings, neither.censored, neither.bracket) == (None, "both", (None, None))


def test_curves_of_one_point_give_no_ratio_of_five() -> None:
    found = compared(curve([(50, 0.5)], floor=20), curve([(10, 0.5)], floor=5), 0.5)
    assert found.doublings is None and found.ratio is None and found.censored is None
    assert found.bracket == pytest.approx((1, math.log2(10)))


@given(curves, accuracies)
def test_compute_lies_in_its_bracket_and_a_higher_accuracy_takes_no_less(points: Curve, top1: float) -> None:
    low, macs, high = at(points, top1)
    assert low <= high
    assert math.isnan(macs) or (low <= macs * (1 + 1e-12) and macs <= high * (1 + 1e-12))
    assert at(points, min(1.0, top1 + 0.1))[2] >= high
    assert at(points, top1, stays=True)[2] >= high


@given(curves, curves, accuracies)
def test_sides_swapped_change_the_sign(one: Curve, other: Curve, top1: float) -> None:
    there, back = compared(one, other, top1), compared(other, one, top1)
    assert there.bracket == tuple(None if end is None else pytest.approx(-end) for end in back.bracket[::-1])
    swapped = {"baseline": "variant", "variant": "baseline"}
    assert there.censored == swapped.get(back.censored or "", back.censored)
    if there.doublings is not None:
        assert there.doublings == pytest.approx(-(back.doublings or 0), abs=1e-9)
        low, high = there.bracket
        assert low is None or low <= there.doublings + 1e-9
        assert high is None or there.doublings <= high + 1e-9
        assert there.ratio is not None and math.log2(there.ratio) == pytest.approx(there.doublings)


@given(curves, curves, accuracies, st.floats(1, 1e15))
def test_training_of_the_teacher_never_helps(one: Curve, other: Curve, top1: float, extra: float) -> None:
    without, with_it = compared(one, other, top1), compared(one, other, top1, extra)
    if without.doublings is not None:
        assert with_it.doublings is not None and with_it.doublings <= without.doublings


def points(macs: list[int], shares: list[float], images: int, seed: int) -> list[CurvePoint]:
    """A curve of which every image is right with the given probability, at every point apart."""
    drawn = np.random.default_rng(seed).random((len(macs), images)) < np.array(shares)[:, None]
    rows = zip(macs, drawn, strict=True)
    return [CurvePoint(macs=spent, top1=float(right.mean()), right=bits(right)) for spent, right in rows]


def measured(images: int, seed: int, stored: int | None = None) -> dict[str, Curve]:
    macs, found = [10, 20, 40, 80], {}
    for number, (id, shares) in enumerate((("a", [0.2, 0.3, 0.4, 0.5]), ("b", [0.3, 0.4, 0.5, 0.6]))):
        found[id] = training(curve=points(macs, shares, images, 2 * seed + number))
    return measured_curves(found, images if stored is None else stored, 400)


def test_resamples_have_the_spread_of_a_proportion() -> None:
    drawn = measured(500, 0)["a"].top1
    assert drawn.shape == (401, 4)
    assert drawn[1:].mean(0) == pytest.approx(drawn[0], abs=0.004)
    assert drawn[1:].std(0) == pytest.approx(np.sqrt(drawn[0] * (1 - drawn[0]) / 500), rel=0.15)
    assert np.array_equal(drawn, measured(500, 0)["a"].top1), "the same images are drawn every time"


@pytest.mark.parametrize("images", [0, 300, 512])
def test_without_results_of_every_image_there_are_no_resamples(images: int) -> None:
    assert len(measured(500, 0, images)["a"].top1) == 1


def test_interval_covers_the_doubling_of_known_curves() -> None:
    covered = 0
    for seed in range(60):
        found = measured(500, seed)
        target = np.full(len(found["a"].top1), 0.4)
        interval = compare_curves(reach(found["a"], target), reach(found["b"], target)).ci95
        assert interval is not None
        low, high = interval
        covered += (low is None or low <= 1) and (high is None or high >= 1)  # `b` is a doubling ahead everywhere
    assert covered >= 52


def test_interval_of_a_bound_is_open() -> None:
    never, there = curve([(10, 0.1), (20, 0.2)]), curve([(10, 0.1), (20, 0.6)])
    rows = [reach(each, np.full(3, 0.5)) for each in (stacked(never), stacked(there))]
    low, high = compare_curves(*rows).ci95 or (None, None)
    assert low is not None and high is None


def stacked(one: Curve) -> Curve:
    return Curve(one.id, one.macs, np.repeat(one.top1, 3, 0))


def test_reached_ends_are_the_estimate_where_there_is_one() -> None:
    found = Reached(np.array([1.0, 1.0]), np.array([2.0, np.nan]), np.array([4.0, np.inf]))
    assert [list(end) for end in found.ends] == [[2, 1], [2, math.inf]]
