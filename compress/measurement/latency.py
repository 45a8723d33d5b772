"""Latency of several candidates in interleaved rounds, so that a slow phase of the machine affects all alike."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import TypedDict

import numpy as np

from compress.efficiency.timing import autocorrelation, middle, processes_split, speedup

MIN_SAMPLE_MS = 2.0
"""Shortest duration of a round's timings, so that one interrupt is a small part of them."""

TAIL_TIMINGS = 300
"""Single timings that a 99th percentile needs: three are beyond it."""

TAIL_ROUNDS = 30
"""With fewer rounds over all processes, a quick benchmark, rounds are not lengthened either."""

TAIL_MAX_MS = 20.0
"""Above this latency, rounds are not lengthened to reach `TAIL_TIMINGS`, which would take over 6 s per candidate."""

MAX_REPETITIONS = 1000
DIGITS = 4
"""Significant digits of stored round times."""

Timer = Callable[[Callable[[], object], int], list[float]]
"""Runs something a number of times, and returns the milliseconds of each run."""

Timings = Sequence[Sequence[float]]
"""Milliseconds `[rounds][runs]` of one candidate in one process, each of a single run."""


class LatencySummary(TypedDict):
    """The measured fields of `LatencyRow`, in milliseconds; the ratio is None without a reference."""

    p50_ms: float
    p99_ms: float | None
    timings: int
    process_p50_ms: list[float]
    rounds_ms: list[list[float]]
    autocorrelation: float | None
    split: bool
    ratio_to_reference: float | None
    ratio_ci95: tuple[float, float] | None


def measure_interleaved(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warmup: int = 3,
    shortest_ms: float = MIN_SAMPLE_MS,
    timings: int = 0,
    seed: int = 0,
    before: Callable[[str], None] = lambda name: None,
    timer: Timer | None = None,
) -> dict[str, list[list[float]]]:
    """Time candidates in interleaved rounds, each in shuffled order.

    In each round a candidate has one untimed run, which warms its caches and threads, and then as many timed ones as
    take `shortest_ms`. The garbage collector is off.

    Args:
        candidates: Function to run, by name.
        rounds: Number of rounds.
        warmup: Runs of each candidate before the first round.
        shortest_ms: Shortest duration of the timed runs of a round in milliseconds.
        timings: Timed runs in all rounds, at least, of a candidate that takes `TAIL_MAX_MS` or less.
        seed: Seed of the order.
        before: Called with the candidate's name before each of its untimed runs.
        timer: Times runs; default: by the clock of the processor. For a GPU: `compress.measurement.cuda.timer_on`.

    Returns:
        Milliseconds of single runs `[rounds][runs]` by candidate.
    """
    repetitions, timed = {}, timer or time_runs
    for name, run in candidates.items():
        before(name)
        repetitions[name] = _repetitions(run, warmup, shortest_ms, math.ceil(timings / rounds), timed)
    times: dict[str, list[list[float]]] = {name: [] for name in candidates}
    order, generator = list(candidates), random.Random(seed)
    with _no_garbage_collection():
        for _ in range(rounds):
            generator.shuffle(order)
            for name in order:
                before(name)
                candidates[name]()
                times[name].append(timed(candidates[name], repetitions[name]))
    return times


def summary(processes: Sequence[Timings], reference: Sequence[Timings] | None = None) -> LatencySummary:
    """Summarize the timings of one candidate, and compare them with a reference.

    The ratio is the reference's median over the candidate's: above 1 the candidate is faster. See
    `compress.efficiency.timing` for its interval.

    Args:
        processes: Timings by process.
        reference: Timings of the reference in the same processes, or None.

    Raises:
        ValueError: there are no timings, or those of another number of processes than the reference's.
    """
    if not processes or not all(processes):
        raise ValueError("there are no timings")
    own, single = round_medians(processes), [time for rounds in processes for times in rounds for time in times]
    found = speedup(own, round_medians(reference)) if reference is not None else None
    enough = len(single) >= TAIL_TIMINGS
    return LatencySummary(
        p50_ms=middle(own),
        p99_ms=float(np.percentile(single, 99)) if enough else None,
        timings=len(single),
        process_p50_ms=[float(median(rounds)) for rounds in own],
        rounds_ms=own,
        autocorrelation=autocorrelation(own),
        split=processes_split(own),
        ratio_to_reference=found.ratio if found else None,
        ratio_ci95=(found.low, found.high) if found and found.low is not None and found.high is not None else None,
    )


def round_medians(processes: Sequence[Timings]) -> list[list[float]]:
    """Return the median of each round, milliseconds `[processes][rounds]`, to `DIGITS` significant digits."""
    return [[float(f"{median(times):.{DIGITS}g}") for times in rounds] for rounds in processes]


def _repetitions(run: Callable[[], object], warmup: int, shortest_ms: float, at_least: int, timer: Timer) -> int:
    for _ in range(warmup):
        run()
    fastest = min(timer(run, 3))
    wanted = math.ceil(shortest_ms / max(fastest, 1e-6))
    return max(1, min(MAX_REPETITIONS, wanted), at_least if fastest <= TAIL_MAX_MS else 1)


def time_runs(run: Callable[[], object], repetitions: int) -> list[float]:
    """Return the milliseconds of each of `repetitions` runs."""
    times = []
    for _ in range(repetitions):
        start = time.perf_counter_ns()
        run()
        times.append((time.perf_counter_ns() - start) / 1e6)
    return times


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
