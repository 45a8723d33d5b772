from __future__ import annotations

import gc
import time

import pytest

from compress.measurement.latency import measure_interleaved, summary


def test_a_fast_candidate_is_run_often_enough_to_be_timed() -> None:
    calls = 0

    def fast() -> None:
        nonlocal calls
        calls += 1

    times = measure_interleaved({"fast": fast, "slow": lambda: time.sleep(0.004)}, 5, shortest_ms=1.0)
    assert len(times["fast"]) == len(times["slow"]) == 5
    assert max(times["fast"]) < 0.1 < 4 <= min(times["slow"])
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


def test_a_summary_has_percentiles_and_a_ratio_with_its_interval() -> None:
    record = summary([2.0, 1.0, 1.0, 1.0, 1.0], [4.0, 2.0, 2.0, 2.0, 2.0])
    assert record["p50_ms"] == 1.0 and 1.9 < record["p99_ms"] <= 2.0
    assert record["ratio_to_reference"] == 2.0
    low, high = record["ratio_ci95"]
    assert low <= 2.0 <= high
    assert record == summary([2.0, 1.0, 1.0, 1.0, 1.0], [4.0, 2.0, 2.0, 2.0, 2.0])


def test_a_slow_phase_that_affects_both_does_not_widen_the_ratio() -> None:
    spells = [1.0, 9.0, 1.0, 5.0, 1.0, 1.0, 7.0]
    record = summary(spells, [3 * spell for spell in spells])
    assert record["ratio_ci95"] == pytest.approx([3.0, 3.0])


def test_the_ratio_is_unknown_without_a_reference() -> None:
    record = summary([1.0])
    assert record["ratio_to_reference"] is None and record["ratio_ci95"] is None


def test_impossible_summaries_are_refused() -> None:
    with pytest.raises(ValueError, match="no times"):
        summary([])
    with pytest.raises(ValueError, match="2 rounds cannot be paired with 3"):
        summary([1.0, 1.0], [1.0, 1.0, 1.0])
