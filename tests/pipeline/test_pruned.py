"""Pruning in rounds and its control, on the tiny job."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from support import Job

from compress.errors import CompressError
from compress.pipeline import pruned


@pytest.fixture
def shrunk_job(done_job: Callable[[], Job]) -> Job:
    """The job that was run before, in two rounds and with a control."""
    job = done_job()
    job.write(deployed=False)
    control = "  - {id: shrunk, kind: shrink, from: pruned}\nmeasure:"
    text = job.recipe.read_text().replace("measure:", control)
    job.recipe.write_text(text.replace("kind: prune,", "kind: prune, rounds: 2, importance: taylor,"))
    return job


def variants(job: Job) -> dict[str, dict[str, Any]]:
    return {variant["id"]: variant for variant in job.results()["variants"]}


def weights(job: Job, name: str) -> dict[str, np.ndarray]:
    return load_file(job.runs / "store" / variants(job)[name]["stage_key"] / "model.safetensors")


def test_rounds_are_gone_on_from_and_the_control_costs_as_much(
    shrunk_job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shrunk_job.run_here().returncode == 0
    undisturbed = weights(shrunk_job, "pruned")
    for name in ("pruned", "shrunk"):
        shutil.rmtree(shrunk_job.runs / "store" / variants(shrunk_job)[name]["stage_key"])
    fit_stage, calls = pruned.fit_stage, 0

    def fails_in_round_two(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise CompressError("the power is gone")
        return fit_stage(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pruned, "fit_stage", fails_in_round_two)
        finished = shrunk_job.run_here()
    assert finished.returncode == 1 and "stage pruned: the power is gone" in finished.stderr
    finished = shrunk_job.run_here()
    assert finished.returncode == 0, finished.stderr
    assert "pruned: goes on after round 1 of 2" in finished.stderr

    made = variants(shrunk_job)
    half, control, dense = made["pruned"], made["shrunk"], made["distilled"]
    assert half["inference"]["macs"] <= 0.6 * dense["inference"]["macs"]
    assert control["inference"]["macs"] <= half["inference"]["macs"]
    assert control["inference"]["macs"] >= 0.9 * half["inference"]["macs"]
    said = [part["what"] for part in half["training"]["parts"]]
    assert sum(what.startswith("importance: ") for what in said) == 2
    assert sum(what.startswith("repair: forward and backward") for what in said) == 2
    assert len(half["training"]["curve"]) == 2
    assert half["training"]["macs"] == sum(part["macs"] for part in half["training"]["parts"])
    epochs = len(control["training"]["curve"])
    one_epoch = control["training"]["curve"][-1]["macs"] / epochs
    assert abs(control["training"]["macs"] - half["training"]["macs"]) <= one_epoch

    again = weights(shrunk_job, "pruned")
    assert all(np.array_equal(again[name], undisturbed[name]) for name in undisturbed)


def test_a_prune_stage_has_one_target(done_job: Callable[[], Job]) -> None:
    job = done_job()
    job.write(deployed=False)
    finished = job.run_here("--set", "stages.pruned.target_params=0.5")
    assert finished.returncode == 2
    assert "stages.pruned.target_params: there is `target_macs` too; a stage takes one target" in finished.stderr
    job.recipe.write_text(job.recipe.read_text().replace("target_macs: 0.6, ", ""))
    finished = job.run_here()
    assert finished.returncode == 2 and "stages.pruned.target_macs: is missing" in finished.stderr
