"""Intervals of latency ratios: their coverage by simulation, modes of processes, and ties."""

from __future__ import annotations

import numpy as np
import pytest
from results_factory import latency_row
from scipy import stats

from compress.efficiency.timing import (
    autocorrelation,
    latency_ratio,
    median_interval,
    middle,
    processes_split,
    slowdown,
    speedup,
    student,
)

TRIALS = 600
SPREAD = 0.05


def correlated(rng: np.random.Generator, shape: tuple[int, ...], rho: float) -> np.ndarray:
    """Normal noise `[..., rounds]` of variance 1, autoregressive of order 1 along the last axis."""
    noise = rng.standard_normal(shape)
    for step in range(1, shape[-1]):
        noise[..., step] = rho * noise[..., step - 1] + np.sqrt(1 - rho**2) * noise[..., step]
    return noise


def coverage(processes: int, rounds: int, rho: float = 0.0, drift: float = 0.0, modes: float = 0.0) -> float:
    """Share of intervals that include the true ratio 2, with noise of each candidate's own and a drift of both."""
    rng, shape = np.random.default_rng(1), (TRIALS, processes, rounds)
    common = drift * np.linspace(0, 1, rounds) + drift * correlated(rng, shape, 0.9)
    own, reference = (
        np.exp(SPREAD * correlated(rng, shape, rho) + common + modes * rng.standard_normal((TRIALS, processes, 1)))
        for _ in range(2)
    )
    ends = [speedup(one.tolist(), (2 * other).tolist()) for one, other in zip(own, reference, strict=True)]
    return float(np.mean([low <= 2 <= high for _, low, high in ends if low is not None and high is not None]))


@pytest.mark.parametrize("noise", [{}, {"drift": 0.2}, {"rho": 0.5}, {"rho": 0.8}, {"modes": 0.3}], ids=str)
def test_intervals_over_three_processes_include_the_truth(noise: dict[str, float]) -> None:
    assert coverage(3, 10, **noise) >= 0.93


@pytest.mark.parametrize("noise", [{}, {"drift": 0.2}, {"rho": 0.5}, {"rho": 0.8}], ids=str)
def test_intervals_over_the_rounds_of_one_process_include_the_truth(noise: dict[str, float]) -> None:
    assert coverage(1, 30, **noise) >= 0.9


def test_rounds_alone_do_not_show_how_processes_differ() -> None:
    assert coverage(1, 30, modes=0.3) < 0.5


def test_a_common_drift_does_not_widen_the_interval() -> None:
    spells = [1.0, 9.0, 1.0, 5.0, 1.0, 1.0, 7.0]
    assert speedup([spells], [[3 * spell for spell in spells]]) == pytest.approx((3.0, 3.0, 3.0))


def test_the_interval_is_never_narrower_than_the_rounds_imply() -> None:
    """Medians of processes that agree by chance."""
    ratio, low, high = speedup([[1.0, 1.0, 1.0, 1.1, 1.2, 1.1, 0.9, 0.9, 0.8]] * 3, [[2.0] * 9] * 3)
    assert ratio == pytest.approx(2.0) and low is not None and high is not None and low < 1.9 < 2.1 < high


def test_a_ratio_of_rows_is_the_ratio_of_their_medians() -> None:
    fast, slow = ([[1.0, 1.1, 1.2], [2.0, 2.1, 2.2]], [[4.0, 4.1, 4.2], [4.1, 4.2, 4.3]])
    rows = [latency_row(name, 16, middle(rounds), rounds_ms=rounds) for name, rounds in (("a", slow), ("b", fast))]
    ratio, low, high = latency_ratio(*rows)
    assert ratio == pytest.approx(rows[0].p50_ms / rows[1].p50_ms) and low is not None and high is not None
    back = latency_ratio(*reversed(rows))
    assert (1 / back.ratio, 1 / (back.high or 0), 1 / (back.low or 0)) == pytest.approx((ratio, low, high))
    old = rows[0].model_copy(update={"rounds_ms": ()})
    assert latency_ratio(old, rows[1]) == (pytest.approx(ratio), None, None)


def two_benchmarks(
    rng: np.random.Generator, processes: tuple[int, int], spreads: tuple[float, float], phase: float = 1
):
    """Rounds of a candidate that becomes 1.1 times slower, and of a network beside it, in a phase of the machine."""
    for count, slower, spread, by in zip(processes, (1, 1.1), spreads, (1, phase), strict=True):
        own, beside = np.exp(spread * rng.standard_normal((2, count, 1)) + 0.02 * correlated(rng, (2, count, 10), 0.5))
        yield (slower * by * own).tolist(), (by * beside).tolist()


@pytest.mark.parametrize("processes", [(2, 2), (3, 3), (3, 6)])
@pytest.mark.parametrize("spreads", [(0.0, 0.0), (0.05, 0.05), (0.0, 0.1)])
def test_intervals_over_separate_benchmarks_include_the_truth(
    processes: tuple[int, int], spreads: tuple[float, float]
) -> None:
    rng, found = np.random.default_rng(4), []
    for _ in range(TRIALS):
        (before, beside_before), (after, beside_after) = two_benchmarks(rng, processes, spreads, phase=2)
        found.append(slowdown(before, after, beside_before, beside_after))
    covered = np.mean([low <= 1.1 <= high for _, low, high in found if low is not None and high is not None])
    assert len(found) == TRIALS and covered >= 0.93


def test_a_phase_of_the_machine_is_only_seen_without_a_network_beside() -> None:
    (before, beside_before), (after, beside_after) = two_benchmarks(
        np.random.default_rng(5), (3, 3), (0.01, 0.01), phase=2
    )
    assert slowdown(before, after).ratio == pytest.approx(2.2, rel=0.1)
    relative = slowdown(before, after, beside_before, beside_after)
    assert relative.ratio == pytest.approx(1.1, rel=0.1)
    assert slowdown(after, before, beside_after, beside_before).ratio == pytest.approx(1 / relative.ratio)


def test_the_interval_over_separate_benchmarks_is_welchs() -> None:
    rng = np.random.default_rng(6)
    before, after = (np.exp(scale * rng.standard_normal((5, 1))) for scale in (0.1, 0.3))
    found = slowdown(np.repeat(before, 9, 1).tolist(), np.repeat(after, 9, 1).tolist())
    exact = stats.ttest_ind(np.log(after[:, 0]), np.log(before[:, 0]), equal_var=False).confidence_interval()
    assert found.low is not None and found.high is not None
    assert np.log(found.low) <= exact.low and np.log(found.high) >= exact.high, "degrees of freedom are rounded down"
    assert (np.log(found.low), np.log(found.high)) == pytest.approx((exact.low, exact.high), abs=0.1)


def test_one_process_has_no_interval_over_benchmarks() -> None:
    assert slowdown([[1.0, 1.1, 1.2]], [[2.0, 2.2, 2.4]] * 3) == (pytest.approx(2.0), None, None)
    with pytest.raises(ValueError, match="processes cannot be compared"):
        slowdown([], [[1.0]])
    with pytest.raises(ValueError, match="processes cannot be compared"):
        slowdown([[1.0]], [[1.0]], [[1.0]] * 2, [[1.0]])


def test_the_interval_of_a_median_is_over_processes() -> None:
    rng = np.random.default_rng(7)
    rounds = np.exp(0.1 * rng.standard_normal((3, 1)) + 0.01 * rng.standard_normal((3, 10)))
    found = median_interval((5 * rounds).tolist())
    logs = np.log(np.median(5 * rounds, axis=1))
    ends = stats.t.interval(0.95, 2, logs.mean(), stats.sem(logs))
    assert found == pytest.approx((middle((5 * rounds).tolist()), *np.exp(ends)), rel=1e-3)


def test_modes_are_processes_that_differ_by_more_than_their_rounds_explain() -> None:
    rng = np.random.default_rng(2)
    quiet = np.exp(0.02 * correlated(rng, (200, 3, 10), 0.5))
    assert sum(processes_split(rounds.tolist()) for rounds in quiet) <= 2
    assert all(processes_split((rounds * [[1.0], [1.5], [1.0]]).tolist()) for rounds in quiet)
    assert not processes_split((quiet[0] * [[1.0], [1.05], [1.0]]).tolist()), "5% is no mode"
    assert not processes_split(quiet[0][:1].tolist())


def test_autocorrelation_is_that_of_neighbouring_rounds() -> None:
    rng = np.random.default_rng(3)
    for rho in (0.0, 0.8):
        assert autocorrelation((9 + correlated(rng, (3, 2000), rho)).tolist()) == pytest.approx(rho, abs=0.05)
    assert autocorrelation([[1.0, 1.0, 1.0, 1.0]]) is None and autocorrelation([[1.0, 2.0, 3.0]]) is None


def test_quantiles_of_student() -> None:
    for degrees in range(1, 60):
        assert student(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-3)
