from __future__ import annotations

import gc
import time

import numpy as np
import pytest

from compress.measurement.latency import measure_interleaved, summary


def test_a_fast_candidate_is_run_often_enough_to_be_timed() -> None:
    calls = 0

    def fast() -> None:
        nonlocal calls
        calls += 1

    times = measure_interleaved({"fast": fast, "slow": lambda: time.sleep(0.004)}, 5, shortest_ms=1.0)
    assert len(times["fast"]) == len(times["slow"]) == 5
    assert min(len(row) for row in times["fast"]) > 100 and {len(row) for row in times["slow"]} == {1}
    assert np.median(times["fast"][0]) < 0.1 < 4 <= min(times["slow"])[0]
    assert calls > 5 * 100


def test_rounds_are_interleaved_and_shuffled_by_seed() -> None:
    def order(seed: int) -> list[str]:
        turns: list[str] = []

        def run(name: str) -> None:
            turns.append(name)
            assert len(turns) <= started or not gc.isenabled()
            time.sleep(0.001)

        started = 3 * (2 + 3)
        measure_interleaved(
            {name: lambda name=name: run(name) for name in "abc"}, 6, warmup=2, shortest_ms=0.5, seed=seed
        )
        return turns[started:]

    first = order(1)
    rounds = [set(first[start : start + 6]) for start in range(0, len(first), 6)]
    assert rounds == [{"a", "b", "c"}] * 6
    assert first == order(1) != order(2)
    assert gc.isenabled()


def test_a_candidate_gets_enough_timings_for_a_percentile_unless_it_is_slow() -> None:
    runs = {"fast": lambda: None, "slow": lambda: time.sleep(0.021)}
    times = measure_interleaved(runs, 3, warmup=1, shortest_ms=0.0, timings=300)
    assert [len(row) for row in times["fast"]] == [100] * 3
    assert [len(row) for row in times["slow"]] == [1] * 3
    named: list[str] = []
    measure_interleaved({"a": lambda: None}, 3, before=named.append)
    assert named == ["a"] * 4, "before warming up, and before each round"


def test_the_99th_percentile_is_of_single_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs in a hundred take 50 ms on this clock, the others 1 ms: means over a round would hide them."""
    clock, runs = 0, 0

    def run() -> None:
        nonlocal clock, runs
        runs += 1
        clock += 50_000_000 if runs % 50 == 0 else 1_000_000

    monkeypatch.setattr(time, "perf_counter_ns", lambda: clock)
    times = measure_interleaved({"a": run}, 10, timings=300)["a"]
    record = summary([times])
    assert record["timings"] == 300 and record["p50_ms"] == 1.0
    assert record["p99_ms"] == pytest.approx(50.0)
    assert np.percentile([np.mean(row) for row in times], 99) < 6
    assert summary([times[:9]])["p99_ms"] is None


def test_a_summary_has_medians_and_a_ratio_with_its_interval() -> None:
    own, reference = single(2.0, 1.0, 1.0, 1.0, 1.0), single(4.0, 2.0, 2.0, 2.0, 2.0)
    record = summary([own, own], [reference, reference])
    assert record["p50_ms"] == 1.0 and record["process_p50_ms"] == [1.0, 1.0]
    assert record["rounds_ms"] == [[2.0, 1.0, 1.0, 1.0, 1.0]] * 2
    assert record["ratio_to_reference"] == pytest.approx(2.0)
    assert record["ratio_ci95"] == pytest.approx((2.0, 2.0)), "both were slow in the same round"


def test_the_ratio_is_unknown_without_a_reference_and_its_interval_with_one_round() -> None:
    assert summary([single(1.0)])["ratio_to_reference"] is None
    once = summary([single(1.0)], [single(3.0)])
    assert (once["ratio_to_reference"], once["ratio_ci95"]) == (pytest.approx(3.0), None)


def test_impossible_summaries_are_refused() -> None:
    for nothing in ([], [[]]):
        with pytest.raises(ValueError, match="no timings"):
            summary(nothing)
    with pytest.raises(ValueError, match="2 processes cannot be compared with 1 of the reference"):
        summary([single(1.0), single(1.0)], [single(1.0)])


def single(*milliseconds: float) -> list[list[float]]:
    """Rounds of one run each."""
    return [[value] for value in milliseconds]
