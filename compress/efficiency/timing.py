"""Statistics of timings: ratios of medians, with intervals over fresh processes and the rounds in them.

Processes of one file can differ by far more than the rounds within a process, so the interval is Student's over
processes. It is never narrower than the rounds alone imply. With one process, consecutive batches of its rounds take
the place of processes (batch means, Alexopoulos and Seila 1996): neighbouring rounds are correlated, batches hardly.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist, fmean, median, stdev
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from compress.results.inference import LatencyRow

Rounds = Sequence[Sequence[float]]
"""Milliseconds `[processes][rounds]`, each the median of a round."""

BATCHES = 3
"""Batches of rounds of a process: with three of ten rounds, intervals cover 90% or more under autocorrelation 0.8."""
NEAR = 0.95
"""Smallest ratio of the medians of two candidates that tie, so that a wide interval alone is not a tie."""
SPLIT_RATIO, SPLIT_ERRORS = 1.1, 6.0
"""Processes split if their medians differ by more than this ratio, and this many errors that the rounds imply. The
second is the 99% point of the studentized range of three means, at the six degrees of freedom of three batches each."""

_Z = NormalDist().inv_cdf(0.975)
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""97.5% points of Student's t with 1 to 10 degrees of freedom."""


class Ratio(NamedTuple):
    """How many times faster, with the 95% interval; the ends are None where nothing was repeated."""

    ratio: float
    low: float | None
    high: float | None


def latency_ratio(reference: LatencyRow, variant: LatencyRow) -> Ratio:
    """Return how many times faster a row of latency is than another of the same run: p50 over p50, with its interval.

    The rows may be of different runtimes or batches: the n-th processes of all rows ran in the same sweep. Rows without
    rounds, or of another number of processes, have no interval.
    """
    if not reference.rounds_ms or len(reference.rounds_ms) != len(variant.rounds_ms):
        return Ratio(reference.p50_ms / variant.p50_ms, None, None)
    return speedup(variant.rounds_ms, reference.rounds_ms)


def speedup(own: Rounds, reference: Rounds) -> Ratio:
    """Return how many times faster a candidate is than a reference.

    The ratio is the geometric mean over processes of the ratio of medians.

    Raises:
        ValueError: the two were not timed in the same number of processes, or not at all.
    """
    logs = _logs(own, reference)
    if logs.error is None:
        return Ratio(math.exp(logs.mean), None, None)
    if logs.processes == 1:
        half = student(BATCHES - 1) * logs.error
    else:
        half = max(student(logs.processes - 1) * math.sqrt(logs.spread), _Z * logs.error / math.sqrt(logs.processes))
    return _ratio(logs.mean, half)


def median_interval(rounds: Rounds) -> Ratio:
    """Return the median in milliseconds, as `middle`, with its 95% interval over processes.

    Raises:
        ValueError: there are no processes.
    """
    millisecond, low, high = speedup([[1.0] * len(process) for process in rounds], rounds)
    return Ratio(millisecond, low, high)


def slowdown(
    before: Rounds, after: Rounds, beside_before: Rounds | None = None, beside_after: Rounds | None = None
) -> Ratio:
    """Return how many times slower a candidate has become from one benchmark to another, at another time.

    The processes of the two have nothing in common, so the interval is Welch's (Biometrika 34, 1947): each benchmark
    has its own spread over processes; degrees of freedom are rounded down. It is never narrower than the rounds imply.

    Args:
        before: Rounds of the candidate in the first benchmark.
        after: Rounds of the candidate in the second benchmark.
        beside_before: Rounds of a network that is the same in both and was timed beside it in the first benchmark, if
            there is one: the benchmarks are then compared by their ratios to it, free of phases of the machine.
        beside_after: Rounds of that network in the second benchmark.

    Returns:
        The ratio of the medians; the ends are None unless both were timed in two processes or more.

    Raises:
        ValueError: candidate and network beside it were not timed in the same number of processes, or not at all.
    """
    old, new = _logs(before, beside_before), _logs(after, beside_after)
    change = old.mean - new.mean  # logs are of the network beside it over the candidate
    if min(old.processes, new.processes) < 2 or old.error is None or new.error is None:
        return Ratio(math.exp(change), None, None)
    spread = old.spread + new.spread
    parts = old.spread**2 / (old.processes - 1) + new.spread**2 / (new.processes - 1)
    degrees = math.floor(spread**2 / parts) if parts else 1
    least = _Z * math.sqrt(old.error**2 / old.processes + new.error**2 / new.processes)
    return _ratio(change, max(student(degrees) * math.sqrt(spread), least))


def middle(rounds: Rounds) -> float:
    """Return the geometric mean over processes of the median of their rounds, milliseconds."""
    return math.exp(fmean(_log_median(process) for process in rounds))


def autocorrelation(rounds: Rounds) -> float | None:
    """Return the lag-1 autocorrelation of rounds, the mean over processes; None where rounds are too few or equal."""
    found = []
    for process in rounds:
        mean = fmean(process)
        away = [value - mean for value in process]
        if len(away) > BATCHES and (total := sum(value * value for value in away)):
            found.append(sum(a * b for a, b in itertools.pairwise(away)) / total)
    return fmean(found) if found else None


def processes_split(rounds: Rounds) -> bool:
    """Return whether the medians of processes differ by more than their rounds explain: the file has several modes."""
    logs = [_log_median(process) for process in rounds]
    error = _error([_batch_logs(process) for process in rounds])
    return error is not None and max(logs) - min(logs) > max(math.log(SPLIT_RATIO), SPLIT_ERRORS * error)


def fastest(rounds: Mapping[str, Rounds]) -> list[str]:
    """Find the fastest candidate, and those that tie with it.

    A candidate ties with the one of the lowest median if the ratio of their medians is at least `NEAR` and the 95%
    interval of that ratio reaches 1.

    Args:
        rounds: Rounds by candidate, in the order of preference among ties.

    Returns:
        Names in the order of `rounds`: the first is the choice.
    """
    best = min(rounds, key=lambda name: middle(rounds[name]))
    return [name for name, own in rounds.items() if name == best or _ties(speedup(own, rounds[best]))]


def student(degrees: int) -> float:
    """Return the 97.5% point of Student's t (Abramowitz and Stegun 26.7.5 beyond the table)."""
    if degrees <= len(_STUDENT):
        return _STUDENT[degrees - 1]
    return _Z + (_Z**3 + _Z) / (4 * degrees) + (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / (96 * degrees**2)


def _ties(found: Ratio) -> bool:
    return found.ratio >= NEAR and found.high is not None and found.high >= 1


class _Logs(NamedTuple):
    """Logarithms of medians by process, or of ratios to a reference's, summarised."""

    mean: float
    processes: int
    spread: float  # variance of the mean, from that over processes; 0 with one
    error: float | None  # standard error of one process's, from its rounds


def _logs(own: Rounds, reference: Rounds | None = None) -> _Logs:
    """Summarise the logarithms of how many times faster a candidate is than a reference, or than 1 ms."""
    if not own or len(own) != len(own if reference is None else reference):
        raise ValueError(f"{len(own)} processes cannot be compared with {len(reference or ())} of the reference")
    pairs = list(zip(own, reference or [[1.0] * len(process) for process in own], strict=True))
    logs = [_log_median(theirs) - _log_median(ours) for ours, theirs in pairs]
    spread = stdev(logs) ** 2 / len(logs) if len(logs) > 1 else 0.0
    return _Logs(fmean(logs), len(logs), spread, _error([_batch_logs(*pair) for pair in pairs]))


def _ratio(log: float, half: float) -> Ratio:
    return Ratio(math.exp(log), math.exp(log - half), math.exp(log + half))


def _log_median(values: Sequence[float]) -> float:
    return math.log(median(values))


def _batch_logs(own: Sequence[float], reference: Sequence[float] | None = None) -> list[float]:
    """Log medians of consecutive batches of rounds, or log ratios of a reference's to them."""
    count = min(BATCHES, len(own), len(own if reference is None else reference))
    logs = [_log_median(batch) for batch in _batches(own, count)]
    if reference is None:
        return logs
    return [_log_median(batch) - log for batch, log in zip(_batches(reference, count), logs, strict=True)]


def _batches(values: Sequence[float], count: int) -> list[Sequence[float]]:
    return [values[len(values) * i // count : len(values) * (i + 1) // count] for i in range(count)]


def _error(batches: Sequence[Sequence[float]]) -> float | None:
    """Standard error of one process's median, from the spread of its batches, pooled over processes."""
    variances = [stdev(logs) ** 2 / len(logs) for logs in batches if len(logs) > 1]
    return math.sqrt(fmean(variances)) if variances else None
