"""Intervals and the grant: closed forms, properties and coverage."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from compress.efficiency.grants import grant
from compress.efficiency.intervals import (
    MIN_IMAGES,
    exact_upper_bound,
    images_needed,
    images_to_show,
    images_to_tell,
    independent_difference,
    paired_difference,
    relative_error_increase,
    wilson,
)

Z = 1.959963984540054


@st.composite
def counts(draw: st.DrawFn, most: int = 5000) -> tuple[int, int, int]:
    n = draw(st.integers(1, most))
    b = draw(st.integers(0, n))
    return b, draw(st.integers(0, n - b)), n


def test_wilson_of_published_example() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263 and 0 of 20.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_mirrors(case: tuple[int, int]) -> None:
    correct, n = case
    low, high = wilson(correct, n)
    assert 0 <= low <= correct / n <= high <= 1
    assert wilson(n - correct, n) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_no_proportion(correct: int, n: int) -> None:
    with pytest.raises(ValueError, match="not a proportion"):
        wilson(correct, n)


def test_confidence_is_a_fraction() -> None:
    with pytest.raises(ValueError, match="fraction"):
        wilson(1, 2, confidence=95)


@given(counts())
def test_paired_interval_holds_the_difference_and_swaps(case: tuple[int, int, int]) -> None:
    b, c, n = case
    there, back = paired_difference(b, c, n), paired_difference(c, b, n)
    assert -1 <= there.low <= there.difference + 1e-12
    assert there.difference - 1e-12 <= there.high <= 1
    assert (there.difference, there.low, there.high) == pytest.approx((-back.difference, -back.high, -back.low))


@pytest.mark.parametrize("n", [30, 500, 2500])
def test_paired_interval_without_discordance(n: int) -> None:
    assert paired_difference(0, 0, n).high == pytest.approx(Z * Z / (n + Z * Z))


def test_the_gain_is_minus_the_loss() -> None:
    lost = paired_difference(10, 4, 100)
    assert (lost.gain, lost.gain_ends) == (-lost.difference, (-lost.high, -lost.low))
    assert str(paired_difference(0, 0, 100).gain) == "0.0"


@pytest.mark.parametrize(("b", "c", "n"), [(10, 4, 100), (1, 0, 44), (40, 12, 2500), (0, 7, 300)])
def test_paired_interval_by_its_definition(b: int, c: int, n: int) -> None:
    """At both ends the score statistic, with the nuisance share found by brute force, is z."""
    result = paired_difference(b, c, n)
    for end in (result.low, result.high):
        shares = [max(0.0, -end) + i / 20_000 * (1 - abs(end)) / 2 for i in range(1, 20_000)]

        def likelihood(q: float, end: float = end) -> float:
            both = 1 - 2 * q - end
            parts = ((b, q + end), (c, q), (n - b - c, both))
            return sum(k * math.log(p) if p > 0 else -math.inf for k, p in parts if k)

        q = max(shares, key=likelihood)
        statistic = (b - c - n * end) / math.sqrt(n * (2 * q + end - end * end))
        assert abs(statistic) == pytest.approx(Z, abs=0.01)


@pytest.mark.parametrize(("b", "c", "n"), [(0, 0, 0), (-1, 0, 5), (3, 3, 5)])
def test_paired_difference_refuses_impossible_counts(b: int, c: int, n: int) -> None:
    with pytest.raises(ValueError, match="not paired counts"):
        paired_difference(b, c, n)


@pytest.mark.parametrize(("p", "q", "n"), [(0.02, 0.02, 500), (0.05, 0.02, 500), (0.01, 0.0, 2500), (0.1, 0.06, 200)])
def test_paired_interval_covers(p: float, q: float, n: int) -> None:
    rng = random.Random(7)
    drawn: dict[tuple[int, int], bool] = {}
    covered, rounds = 0, 1500
    for _ in range(rounds):
        draws = [rng.random() for _ in range(n)]
        b, c = sum(d < p for d in draws), sum(p <= d < p + q for d in draws)
        if (b, c) not in drawn:
            interval = paired_difference(b, c, n)
            drawn[b, c] = interval.low <= p - q <= interval.high
        covered += drawn[b, c]
    assert 0.93 <= covered / rounds <= 0.97


def test_wilson_covers() -> None:
    rng = random.Random(11)
    hits = 0
    for _ in range(1500):
        low, high = wilson(sum(rng.random() < 0.9 for _ in range(300)), 300)
        hits += low <= 0.9 <= high
    assert 0.93 <= hits / 1500 <= 0.97


def _wrongly_granted(n: int, tolerance: float, q: float) -> float:
    """Exact chance of a grant where the variant is worse by just the tolerance."""
    p = q + tolerance
    chance = 0.0
    for b, c in itertools.product(range(n + 1), repeat=2):
        if b + c <= n and grant(paired_difference(b, c, n), tolerance).granted:
            ways = math.comb(n, b) * math.comb(n - b, c)
            chance += ways * p**b * q**c * (1 - p - q) ** (n - b - c)
    return chance


@pytest.mark.parametrize("q", [0.01, 0.1, 0.3])
def test_a_wrong_grant_is_as_rare_as_said(q: float) -> None:
    assert _wrongly_granted(MIN_IMAGES, 0.05, q) <= 0.031


@pytest.mark.parametrize(
    ("b", "c", "n"), [(0, 0, 50), (3, 0, 50), (40, 60, 2500), (50, 0, 50), (0, 50, 50), (9, 4, 100)]
)
def test_exact_bound_is_of_beta_quantiles(b: int, c: int, n: int) -> None:
    upper = 1.0 if b == n else stats.beta.ppf(1 - 0.0125, b + 1, n - b)
    lower = 0.0 if c == 0 else stats.beta.ppf(0.0125, c, n - c + 1)
    assert exact_upper_bound(b, c, n) == pytest.approx(upper - lower, abs=1e-9)
    with pytest.raises(ValueError, match="not paired counts"):
        exact_upper_bound(b, c, b + c - 1)


@pytest.mark.parametrize(("p", "q"), [(0.02, 0.02), (0.2, 0.05), (0.05, 0.0), (0.4, 0.4)])
def test_exact_bound_is_never_missed_more_often_than_said(p: float, q: float) -> None:
    n, missed = 30, 0.0
    for b, c in itertools.product(range(n + 1), repeat=2):
        if b + c <= n and exact_upper_bound(b, c, n) < p - q:
            missed += math.comb(n, b) * math.comb(n - b, c) * p**b * q**c * (1 - p - q) ** (n - b - c)
    assert missed <= 0.025


def test_images_needed_is_where_identical_answers_begin_to_be_granted() -> None:
    assert images_needed(0.01) == 381
    for tolerance in (0.005, 0.01, 0.02, 0.05):
        n = images_needed(tolerance)
        assert grant(paired_difference(0, 0, n), tolerance).granted
        assert not grant(paired_difference(0, 0, n - 1), tolerance).granted
    with pytest.raises(ValueError, match="tolerance"):
        images_needed(0)


@settings(max_examples=300)
@given(counts(600), st.floats(0.001, 0.3))
def test_never_granted_with_fewer_images_than_could_show_it(case: tuple[int, int, int], tolerance: float) -> None:
    b, c, n = case
    granted = grant(paired_difference(b, c, n), tolerance).granted
    if n < MIN_IMAGES or (b >= c and n < images_needed(tolerance)):
        assert not granted


def test_three_points_worse_is_refused() -> None:
    decision = grant(paired_difference(120, 45, 2500), 0.01)
    assert not decision.granted
    assert decision.reason.startswith("3.0 points less accurate (95% interval 2.0 to 4.0), all of it beyond")


def test_reasons_speak_the_direction() -> None:
    better = grant(paired_difference(20, 120, 2500), 0.01)
    assert better.granted
    assert better.reason.startswith("4.0 points more accurate (95% interval 3.1 to ")
    assert grant(paired_difference(0, 0, 2500), 0.01).reason.startswith("as accurate to 0.1 points")
    assert "does not exclude" in grant(paired_difference(5, 5, 100), 0.01).reason
    assert "too few" in grant(paired_difference(0, 9, 9), 0.01).reason


def test_a_refusal_says_how_many_images_would_show_it() -> None:
    difference = paired_difference(50, 50, 1000)
    needed = images_to_show(difference, 0.01)
    assert needed == math.ceil((1.959964 + 0.841621) ** 2 * 0.1 / 0.01**2)
    assert f"about {needed:,} images would show" in grant(difference, 0.01).reason
    assert "would show" not in grant(paired_difference(60, 40, 1000), 0.01).reason, "a loss beyond the tolerance"
    assert images_to_show(paired_difference(0, 0, 100), 0.01) == images_needed(0.01)


def test_a_test_that_was_large_enough_is_not_told_to_be_too_small() -> None:
    difference = paired_difference(47, 27, 2500)
    needed = images_to_show(difference, 0.01)
    assert needed < 2500
    assert f"if it were as accurate, about {needed:,} images would have shown it" in grant(difference, 0.01).reason


def test_as_many_images_as_asked_for_show_it_four_times_in_five() -> None:
    """By simulation of equally accurate variants; Tango's interval is a little wider than the formula's."""
    rng, tolerance, rounds = np.random.default_rng(0), 0.02, 2000
    n = images_to_show(paired_difference(50, 50, 1000), tolerance)
    counts = rng.multinomial(n, (0.05, 0.05, 0.9), rounds)
    granted = sum(grant(paired_difference(int(b), int(c), n), tolerance).granted for b, c, _ in counts)
    assert granted / rounds == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize(
    ("first", "second", "ends"),
    [((56, 70), (48, 80), (0.0524, 0.3339)), ((9, 10), (3, 10), (0.1705, 0.8090)), ((10, 10), (0, 20), (0.6791, 1.0))],
)
def test_independent_difference_of_published_examples(
    first: tuple[int, int], second: tuple[int, int], ends: tuple[float, float]
) -> None:
    """Newcombe 1998, Statistics in Medicine 17, pages 873 to 890, table II, method 10."""
    shares = [correct / n for correct, n in (first, second)]
    found = independent_difference(shares[0], wilson(*first), shares[1], wilson(*second))
    assert found == pytest.approx(ends, abs=5e-5)


def test_images_that_tell_grow_with_confidence_and_closeness() -> None:
    assert images_to_tell(0.1, 0.01) == images_to_show(paired_difference(50, 50, 1000), 0.01)
    assert images_to_tell(0.1, 0.005) == pytest.approx(4 * images_to_tell(0.1, 0.01), abs=4)
    assert images_to_tell(0.1, 0.01, 0.995) > images_to_tell(0.1, 0.01)
    assert images_to_tell(0, 0.01) == images_needed(0.01)


def test_the_same_points_are_more_errors_of_a_better_reference() -> None:
    point = paired_difference(30, 20, 1000)
    assert relative_error_increase(point, 0.67) == pytest.approx(0.03, abs=0.001)
    assert relative_error_increase(point, 0.99) == pytest.approx(1)
    assert relative_error_increase(point, 1) is None
