"""Timing in fresh processes: memory layout and thread placement are drawn anew in each, and can change a speed by 2x.

    python -m compress.deployment.timing FOLDER

loads the candidates of `FOLDER/request.json`, times them in interleaved rounds and writes `FOLDER/times.json`. It
imports numpy and what the candidates need, torch only where that is part of it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from compress.deployment.memory import child_environment
from compress.deployment.runtime import Array, Runner
from compress.measurement.latency import TAIL_ROUNDS, TAIL_TIMINGS, measure_interleaved
from compress.registry import load_entry
from compress.utils.errors import CompressError, first_line
from compress.utils.processes import killed_by

REQUEST, TIMES, CURRENT, FAILURE = "request.json", "times.json", "current", "failure"
LONGEST_S = 3600.0  # of a candidate at a batch size: a slow board takes minutes, one that hangs is ended
MIN_ROUNDS = 3

ByBatch = dict[int, dict[str, list[list[list[float]]]]]
"""Milliseconds `[processes][rounds][runs]` by batch size and candidate."""


class TimingFailed(CompressError):
    """A candidate could not be loaded or timed.

    Attributes:
        key: Key of the candidate; None where it is not known which one it was.
        reason: Why, without the candidate.
    """

    def __init__(self, candidates: Mapping[str, Candidate], key: str, reason: str) -> None:
        found = candidates.get(key)
        where = f"latency of {found.name} in {found.runtime}" if found else "latency of the candidates"
        super().__init__(f"{where}: {reason}")
        self.key, self.reason = key if found else None, reason


@dataclass(frozen=True)
class Candidate:
    """Something to time, described so that another process can load it.

    Attributes:
        name: Name of the variant, for messages.
        runtime: Name of the runtime, for messages.
        loader: `module:function` that takes `arguments` and a number of threads, and returns a function to run.
        arguments: Plain data.
    """

    name: str
    runtime: str
    loader: str
    arguments: Mapping[str, Any]

    def load(self, threads: int) -> Runner:
        """Load the candidate in this process."""
        runner: Runner = load_entry(self.loader)(self.arguments, threads)
        return runner


@dataclass(frozen=True)
class Schedule:
    """How often to time: `rounds` are shared out among `processes`. One process is this one, not a fresh one."""

    batches: Sequence[int]
    rounds: int
    processes: int
    threads: int

    @property
    def rounds_each(self) -> int:
        return max(MIN_ROUNDS, -(-self.rounds // self.processes))

    @property
    def timings_each(self) -> int:
        """Single runs of each process for a 99th percentile; a quick benchmark of few rounds does without."""
        return -(-TAIL_TIMINGS // self.processes) if self.rounds >= TAIL_ROUNDS else 0


def file_candidate(name: str, runtime: str, path: Path) -> Candidate:
    """Describe an artifact."""
    return Candidate(name, runtime, "compress.deployment.timing:load_file", {"runtime": runtime, "path": str(path)})


def load_file(arguments: Mapping[str, str], threads: int) -> Runner:
    """Load an artifact in its runtime."""
    from compress.deployment.runtimes import find_runtime

    return find_runtime(arguments["runtime"]).load(Path(arguments["path"]), threads)


def time_together(
    candidates: Mapping[str, Candidate],
    images: Callable[[str, int], Array],
    schedule: Schedule,
    process: int = 0,
) -> ByBatch:
    """Time candidates side by side in one process, fresh if the schedule has several.

    Args:
        candidates: Candidates by key.
        images: Returns the batch that a candidate runs, float32 `[b, 3, r, r]`, from its key and the batch size.
        schedule: Batch sizes, rounds, processes and threads.
        process: Number of the process, the seed of the order.

    Returns:
        Timings by batch size and key, of one process.

    Raises:
        TimingFailed: a candidate cannot be loaded or run, or the process was killed.
    """
    if schedule.processes == 1:
        return _time_here(candidates, images, schedule, process)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for key in candidates:
            for batch in schedule.batches:
                np.save(_images_file(work, list(candidates).index(key), batch), images(key, batch))
        described = {key: asdict(candidate) for key, candidate in candidates.items()}
        (work / REQUEST).write_text(
            json.dumps({"candidates": described, "schedule": asdict(schedule), "process": process})
        )
        limit = LONGEST_S * len(candidates) * len(schedule.batches)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "compress.deployment.timing", folder],
                stdout=subprocess.DEVNULL,  # some engines write to it
                stderr=subprocess.PIPE,
                env=child_environment(),
                timeout=limit,
            )
        except subprocess.TimeoutExpired as error:
            reason = f"it hangs, and was ended after {limit:,.0f} s; leave it out"
            raise TimingFailed(candidates, _current(work), reason) from error
        if done.returncode:
            raise TimingFailed(candidates, _current(work), _cause(work, done))
        return {int(batch): times for batch, times in json.loads((work / TIMES).read_text()).items()}


def collect(processes: Sequence[ByBatch]) -> ByBatch:
    """Join the timings of several processes."""
    return {
        batch: {key: [times for one in processes for times in one[batch][key]] for key in by_key}
        for batch, by_key in processes[0].items()
    }


def main() -> None:
    """Time the candidates of a request in this process."""
    from compress.plugins import load_installed

    load_installed()
    work = Path(sys.argv[1])
    request = json.loads((work / REQUEST).read_text())
    candidates = {key: Candidate(**fields) for key, fields in request["candidates"].items()}
    schedule, numbers = Schedule(**request["schedule"]), {key: number for number, key in enumerate(candidates)}
    with (work / CURRENT).open("w") as current:

        def note(key: str) -> None:
            current.seek(0)
            current.truncate()
            current.write(key)
            current.flush()

        try:
            times = _time(
                candidates,
                lambda key, batch: np.load(_images_file(work, numbers[key], batch)),
                schedule,
                request["process"],
                note,
            )
        except Exception as error:  # exception types of runtimes are not public
            (work / FAILURE).write_text(_described(error))
            sys.exit(1)
    (work / TIMES).write_text(json.dumps(times))


def _time_here(
    candidates: Mapping[str, Candidate], images: Callable[[str, int], Array], schedule: Schedule, process: int
) -> ByBatch:
    """Time candidates in this process, which one that crashes takes with it."""
    reached = [""]
    try:
        return _time(candidates, images, schedule, process, reached.append)
    except Exception as error:  # exception types of runtimes are not public
        raise TimingFailed(candidates, reached[-1], _described(error)) from error


def _described(error: Exception) -> str:
    return "out of memory" if isinstance(error, MemoryError) else first_line(error)


def _time(
    candidates: Mapping[str, Candidate],
    images: Callable[[str, int], Array],
    schedule: Schedule,
    process: int,
    note: Callable[[str], None],
) -> ByBatch:
    """Load candidates and time them; `note` is called with the key of each before it runs."""
    runners: dict[str, Runner] = {}
    found: ByBatch = {}
    for key, candidate in candidates.items():
        note(key)
        runners[key] = candidate.load(schedule.threads)
    for batch in schedule.batches:
        runs = {key: partial(run, images(key, batch)) for key, run in runners.items()}
        times = measure_interleaved(
            runs, schedule.rounds_each, timings=schedule.timings_each, seed=process, before=note
        )
        found[batch] = {key: [rounds] for key, rounds in times.items()}
    return found


def _images_file(work: Path, number: int, batch: int) -> Path:
    return work / f"{number}-{batch}.npy"


def _current(work: Path) -> str:
    """Return the key of the candidate that a process was at; empty where it had come to none."""
    return (work / CURRENT).read_text() if (work / CURRENT).is_file() else ""


def _cause(work: Path, done: subprocess.CompletedProcess[bytes]) -> str:
    """Say on one line why a process failed."""
    if (work / FAILURE).is_file():
        return (work / FAILURE).read_text()
    if killed := killed_by(done.returncode):
        short_of_memory = done.returncode == -signal.SIGKILL
        return f"{killed}; {'free memory, use smaller batches, or leave it out' if short_of_memory else 'leave it out'}"
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else f"its process exited with {done.returncode}"


if __name__ == "__main__":
    main()
