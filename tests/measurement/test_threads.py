from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

import compress
from compress.measurement.threads import torch_threads
from compress.pipeline.dry_run import try_recipe
from compress.recipe.load import parse_recipe
from compress.utils import system
from compress.utils.system import cores, describe_cores, limit_threads, thread_count


def test_the_number_of_threads_is_restored_whatever_happens() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="not today"), torch_threads(before + 2):
        assert torch.get_num_threads() == before + 2
        torch.set_num_threads(before + 1)
        raise ValueError("not today")
    assert torch.get_num_threads() == before


def test_the_default_is_the_cores_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert thread_count(None) == cores() >= 1 and thread_count(3) == 3
    monkeypatch.setattr(system, "quota", lambda: None)
    monkeypatch.setattr(system.os, "sched_getaffinity", lambda process: {4, 7}, raising=False)
    assert thread_count(None) == cores() == 2
    monkeypatch.delattr(system.os, "sched_getaffinity")
    monkeypatch.setattr(system.os, "cpu_count", lambda: None)
    assert cores() == 1


@pytest.mark.parametrize(
    ("limit", "count", "words"),
    [
        (None, 4, "4 of 8 cores"),
        (2.5, 2, "2 of 8 cores, CPU quota 2.5"),
        (0.5, 1, "1 of 8 cores, CPU quota 0.5"),
        (64.0, 4, "4 of 8 cores, CPU quota 64"),
    ],
)
def test_a_quota_limits_the_cores(monkeypatch: pytest.MonkeyPatch, limit: float | None, count: int, words: str) -> None:
    monkeypatch.setattr(system.os, "sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(system.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(system, "quota", lambda: limit)
    assert cores() == thread_count(None) == count and describe_cores() == words


NETWORK = torch.nn.Flatten()
NOTHING: Any = None
NO_DATA = """\
data: {source: image-folder, path: nowhere}
stages: [{id: dense, kind: train, student: resnet18}]
"""


@pytest.mark.parametrize(("chosen", "variable"), [(None, "2"), ("3", "3")])
def test_libraries_start_no_more_threads_than_the_quota_allows(
    monkeypatch: pytest.MonkeyPatch, chosen: str | None, variable: str
) -> None:
    monkeypatch.setattr(system.os, "sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(system, "quota", lambda: 2.0)
    monkeypatch.setenv("OMP_NUM_THREADS", chosen or "1")
    if not chosen:
        monkeypatch.delenv("OMP_NUM_THREADS")
    with torch_threads(4):
        limit_threads()
        assert os.environ["OMP_NUM_THREADS"] == variable and torch.get_num_threads() == (4 if chosen else 2)


@pytest.mark.parametrize(
    "call",
    [
        lambda folder: try_recipe(parse_recipe(NO_DATA), folder),
        lambda folder: compress.distill(NETWORK, NETWORK, NOTHING, NOTHING, preprocess=NOTHING),
        lambda folder: compress.prune(NETWORK, 32),
        lambda folder: compress.quantize(NETWORK, []),
        lambda folder: compress.measure({}, 32, rounds=0),
        lambda folder: compress.export(NETWORK, folder, preprocess=NOTHING, classes=[]),
        lambda folder: compress.evaluate(NETWORK, folder),
    ],
    ids=["plan", "distill", "prune", "quantize", "measure", "export", "evaluate"],
)
def test_whatever_computes_keeps_to_the_quota(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: Callable[[Path], Any]
) -> None:
    """The calls fail at once, of arguments that are no use; the limit is there by then."""
    monkeypatch.setattr(system.os, "sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(system, "quota", lambda: 2.0)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("OMP_NUM_THREADS")
    with torch_threads(4):
        with suppress(Exception):
            call(tmp_path)
        assert torch.get_num_threads() == 2


def test_without_a_quota_threads_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "quota", lambda: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("OMP_NUM_THREADS")
    limit_threads()
    assert "OMP_NUM_THREADS" not in os.environ


def test_nothing_else_counts_cores() -> None:
    """`cores` and `usable_cpus` know of affinity and quota; the count of the system does not."""
    package = Path(system.__file__).parents[1]
    counting = {path.name for path in package.rglob("*.py") if "cpu_count" in path.read_text()}
    assert counting == {"system.py"}
