"""Latency of several candidates in turns, so that a slow spell of the machine hits all of them alike."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

SHORTEST_MS = 2.0
"""A sample lasts at least this long, so that the clock and one interrupt do not make up much of it."""

NEAR = 0.95
"""Of two that are as fast within their interval: how near medians are, so that a wide interval alone makes no tie."""

MAX_REPETITIONS = 1000
RESAMPLES = 2000


def measure_in_turns(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warmup: int = 3,
    shortest_ms: float = SHORTEST_MS,
    seed: int = 0,
) -> dict[str, list[float]]:
    """Time candidates in interleaved rounds; in each round every candidate has one turn, in shuffled order.

    A turn is one run that is not timed, which brings the caches and the threads of the candidate back, and then as many
    runs as last `shortest_ms`. The garbage collector is off.

    Args:
        candidates: What to run, by name.
        rounds: Turns of each candidate.
        warmup: Runs of each before anything is timed.
        shortest_ms: Shortest timed part of a turn, in milliseconds.
        seed: Of the order.

    Returns:
        Milliseconds of one run, by candidate, one value a round.
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


def summary(times: Sequence[float], reference_times: Sequence[float] | None = None, *, seed: int = 0) -> dict[str, Any]:
    """Percentiles of one candidate, and how many times faster than the reference it is.

    The ratio is the reference's median over the candidate's: above 1 the candidate is faster. Its interval is the
    bootstrap's 95% percentile interval over rounds, which are drawn for both together because they ran side by side.

    Args:
        times: Milliseconds, one value a round.
        reference_times: The reference's milliseconds in the same rounds; without them the ratio is unknown (None).
        seed: Of the bootstrap.

    Raises:
        ValueError: there are no times, or not as many as the reference has.
    """
    own = np.asarray(times, np.float64)
    if not own.size:
        raise ValueError("there are no times")
    record: dict[str, Any] = {
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
    """The fastest of some candidates, and all that these rounds do not show to be slower.

    Args:
        times: Milliseconds, one value a round, by candidate, the one first that is preferred of several as fast.

    Returns:
        Names in the order of `times`: the first of them is the choice. As fast as the one with the lowest median is
        whose median is near to it (`NEAR`) and whose 95% interval of the ratio to it reaches 1.
    """
    best = min(times, key=lambda name: float(np.median(times[name])))
    found = {name: summary(taken, times[best]) for name, taken in times.items()}
    return [
        name
        for name, record in found.items()
        if name == best or (record["ratio_to_reference"] >= NEAR and record["ratio_ci95"][1] >= 1)
    ]


def _repetitions(run: Callable[[], object], warmup: int, shortest_ms: float) -> int:
    for _ in range(warmup):
        run()
    fastest = min(_time(run, 1) for _ in range(3))
    return max(1, min(MAX_REPETITIONS, math.ceil(shortest_ms / max(fastest, 1e-6))))


def _time(run: Callable[[], object], repetitions: int) -> float:
    """Milliseconds of one run, of `repetitions` timed together."""
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
