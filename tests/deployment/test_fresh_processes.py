"""Timing in fresh processes: one child with a runtime, and what it says when it fails."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.deployment.conversion import convert
from compress.deployment.runtime import Runner
from compress.deployment.timing import Candidate, Schedule, collect, time_together
from compress.utils.errors import CompressError

TWO = Schedule((1, 4), rounds=30, processes=2, threads=1)


def load(arguments: Mapping[str, Any], threads: int) -> Runner:
    """A loader as a child process finds it: it adds, or ends as `fails` says."""
    fails = arguments["fails"]
    if fails == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if fails == "memory":
        raise MemoryError
    if fails == "error":
        raise CompressError("the file is damaged")
    if fails == "exit":
        os._exit(3)
    if fails == "hangs":
        time.sleep(600)
    return lambda images: images.sum((1, 2, 3))[:, None] + threads


def candidate(name: str, fails: str | None = None) -> Candidate:
    return Candidate(name, "toy", "test_fresh_processes:load", {"fails": fails})


def images(key: str, batch: int) -> np.ndarray[Any, Any]:
    return np.zeros((batch, 3, 8, 8), np.float32)


@pytest.fixture(autouse=True)
def _tests_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.syspath_prepend(Path(__file__).parent)


def test_candidates_are_timed_side_by_side_in_a_fresh_process() -> None:
    candidates = {"a": candidate("a"), "b": candidate("b")}
    joined = collect([time_together(candidates, images, TWO, process) for process in range(2)])
    assert list(joined) == [1, 4] and list(joined[4]) == ["a", "b"]
    for by_key in joined.values():
        for processes in by_key.values():
            assert [len(rounds) for rounds in processes] == [15, 15]
            assert all(len(runs) >= 10 and min(runs) > 0 for rounds in processes for runs in rounds)


def test_rounds_are_shared_out_among_processes() -> None:
    shares = {
        (rounds, processes): (schedule.rounds_each, schedule.timings_each)
        for rounds, processes in ((30, 3), (30, 1), (40, 3), (5, 3), (5, 1))
        for schedule in [Schedule((1,), rounds, processes, threads=1)]
    }
    assert shares == {(30, 3): (10, 100), (30, 1): (30, 300), (40, 3): (14, 100), (5, 3): (3, 0), (5, 1): (5, 0)}


def test_one_process_is_this_one() -> None:
    here = Schedule((1,), rounds=5, processes=1, threads=1)
    with pytest.raises(CompressError, match=r"^latency of a in toy: the file is damaged$"):
        time_together({"a": candidate("a", "error")}, images, here)
    assert len(time_together({"a": candidate("a")}, images, here)[1]["a"][0]) == 5


@pytest.mark.parametrize(
    ("fails", "reason"),
    [
        ("killed", "its process was killed by SIGKILL; free memory, use smaller batches, or leave it out"),
        ("memory", "out of memory"),
        ("error", "the file is damaged"),
        ("exit", "its process exited with 3"),
    ],
)
def test_a_failure_in_the_child_is_one_line_with_variant_and_runtime(fails: str, reason: str) -> None:
    with pytest.raises(CompressError) as caught:
        time_together({"a": candidate("a"), "b": candidate("int8", fails)}, images, TWO)
    assert str(caught.value) == f"latency of int8 in toy: {reason}"


def test_a_runtime_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.deployment.timing.LONGEST_S", 1.0)
    with pytest.raises(CompressError, match=r"^latency of b in toy: it hangs, and was ended after 4 s; leave it out$"):
        time_together({"a": candidate("a"), "b": candidate("b", "hangs")}, images, TWO)


def test_a_converter_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("compress.deployment.conversion.LONGEST_S", 0.2)
    with pytest.raises(CompressError, match=r"^no file of x: sleep hangs, and was ended after 0 s$"):
        convert(["sleep", "60"], tmp_path / "x", "sleep", "no file of x")
