"""Latency of several candidates in interleaved rounds, so that a slow phase of the machine affects all alike."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypedDict

import numpy as np

MIN_SAMPLE_MS = 2.0
"""Shortest duration of a sample, so that clock resolution and one interrupt are a small part of it."""

NEAR = 0.95
"""Smallest ratio of the medians of two candidates that tie, so that a wide interval alone is not a tie."""

MAX_REPETITIONS = 1000
RESAMPLES = 2000


class LatencySummary(TypedDict):
    """Percentiles in milliseconds, and how many times faster than the reference; None without a reference."""

    p50_ms: float
    p99_ms: float
    ratio_to_reference: float | None
    ratio_ci95: list[float] | None


def measure_interleaved(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warmup: int = 3,
    shortest_ms: float = MIN_SAMPLE_MS,
    seed: int = 0,
) -> dict[str, list[float]]:
    """Time candidates in interleaved rounds, each in shuffled order.

    In each round a candidate has one untimed run, which warms its caches and threads, and then as many runs as take
    `shortest_ms`. The garbage collector is off.

    Args:
        candidates: Function to run, by name.
        rounds: Number of rounds.
        warmup: Runs of each candidate before the first round.
        shortest_ms: Shortest duration of a sample in milliseconds.
        seed: Seed of the order.

    Returns:
        Milliseconds per run, by candidate, one value per round.
    """
    repetitions = {name: _repetitions(run, warmup, shortest_ms) for name, run in candidates.items()}
    times: dict[str, list[float]] = {name: [] for name in candidates}
    order, generator = list(candidates), random.Random(seed)
    with _no_garbage_collection():
        for _ in range(rounds):
            generator.shuffle(order)
            for name in order:
                candidates[name]()
                times[name].append(_time(candidates[name], repetitions[name]))
    return times


def speedup(times: Sequence[float], reference_times: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Return how many times faster a candidate is than a reference, with the 95% interval; see `summary`."""
    record = summary(times, reference_times)
    assert record["ratio_to_reference"] is not None and record["ratio_ci95"] is not None
    low, high = record["ratio_ci95"]
    return record["ratio_to_reference"], (low, high)


def summary(times: Sequence[float], reference_times: Sequence[float] | None = None, *, seed: int = 0) -> LatencySummary:
    """Summarize the times of one candidate, and compare them with a reference.

    The ratio is the reference's median over the candidate's: above 1 the candidate is faster. Its interval is the 95%
    percentile interval of a bootstrap over rounds, paired because candidates ran side by side.

    Args:
        times: Milliseconds, one value per round.
        reference_times: Milliseconds of the reference in the same rounds, or None.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: there are no times, or another number than of the reference.
    """
    own = np.asarray(times, np.float64)
    if not own.size:
        raise ValueError("there are no times")
    record: LatencySummary = {
        "p50_ms": float(np.percentile(own, 50)),
        "p99_ms": float(np.percentile(own, 99)),
        "ratio_to_reference": None,
        "ratio_ci95": None,
    }
    if reference_times is not None:
        other = np.asarray(reference_times, np.float64)
        if other.shape != own.shape:
            raise ValueError(f"{own.size} rounds cannot be paired with {other.size} of the reference")
        drawn = np.random.default_rng(seed).integers(0, own.size, (RESAMPLES, own.size))
        ratios = np.median(other[drawn], 1) / np.median(own[drawn], 1)
        record["ratio_to_reference"] = float(np.median(other) / np.median(own))
        record["ratio_ci95"] = [float(end) for end in np.percentile(ratios, (2.5, 97.5))]
    return record


def fastest(times: Mapping[str, Sequence[float]]) -> list[str]:
    """Find the fastest candidate, and those that tie with it.

    A candidate ties with the one of the lowest median if the ratio of their medians is at least `NEAR` and the 95%
    interval of that ratio reaches 1.

    Args:
        times: Milliseconds, one value per round, by candidate, in the order of preference among ties.

    Returns:
        Names in the order of `times`: the first is the choice.
    """
    best = min(times, key=lambda name: float(np.median(times[name])))
    return [name for name, taken in times.items() if name == best or _ties(summary(taken, times[best]))]


def _ties(record: LatencySummary) -> bool:
    ratio, interval = record["ratio_to_reference"], record["ratio_ci95"]
    return ratio is not None and interval is not None and ratio >= NEAR and interval[1] >= 1


def _repetitions(run: Callable[[], object], warmup: int, shortest_ms: float) -> int:
    for _ in range(warmup):
        run()
    fastest = min(_time(run, 1) for _ in range(3))
    return max(1, min(MAX_REPETITIONS, math.ceil(shortest_ms / max(fastest, 1e-6))))


def _time(run: Callable[[], object], repetitions: int) -> float:
    """Milliseconds per run of `repetitions` runs timed together."""
    start = time.perf_counter_ns()
    for _ in range(repetitions):
        run()
    return (time.perf_counter_ns() - start) / 1e6 / repetitions


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
