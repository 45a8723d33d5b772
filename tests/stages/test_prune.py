"""Iterative pruning, its control, and sparsity, on the tiny job."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from support import Job
from torch import nn

from compress.pruning.sparsity import Mask
from compress.stages.prune import make as pruned
from compress.stages.shrink import make as shrunk
from compress.stages.sparsify import make as sparse
from compress.store.manifest import MANIFEST
from compress.training.callbacks import EpochCheckpoint
from compress.utils.errors import CompressError


@pytest.fixture
def shrunk_job(done_job: Callable[[], Job]) -> Job:
    """The finished job, with two pruning rounds and a control."""
    job = done_job()
    job.write(deployed=False)
    control = "  - {id: shrunk, kind: shrink, from: pruned}\nmeasure:"
    text = job.recipe.read_text().replace("measure:", control)
    job.recipe.write_text(text.replace("kind: prune,", "kind: prune, rounds: 2, importance: taylor,"))
    return job


@pytest.mark.parametrize(
    ("spent", "epochs"),
    [(0, 1), (100, 1), (219, 2), (330, 3), (360, 3), (404, 4), (1004, 10)],
)
def test_epochs_of_a_control_take_its_budget_with_the_views_that_they_need(spent: int, epochs: int) -> None:
    def cost(count: int) -> int:
        return 100 * count + 10 * min(count, 3)

    assert shrunk.epochs_for(spent, 100, 10, 3) == epochs
    assert abs(cost(epochs) - spent) == min(abs(cost(count) - spent) for count in range(1, 20))


def variants(job: Job) -> dict[str, dict[str, Any]]:
    return {variant["id"]: variant for variant in job.results()["variants"]}


def forget(job: Job, *names: str) -> None:
    """Delete the store entries of stages, intermediate states included."""
    for manifest in (job.runs / "store").glob(f"*/{MANIFEST}"):
        if json.loads(manifest.read_text())["what"].split(",")[0] in names:
            shutil.rmtree(manifest.parent)


def weights(job: Job, name: str) -> dict[str, np.ndarray]:
    return load_file(job.runs / "store" / variants(job)[name]["stage_key"] / "model.safetensors")


@pytest.mark.slow
def test_iterative_pruning_resumes_and_its_control_costs_as_much(
    shrunk_job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shrunk_job.run_here().returncode == 0
    undisturbed = weights(shrunk_job, "pruned")
    forget(shrunk_job, "pruned", "shrunk")
    fit_stage, calls = pruned.fit_stage, 0

    def fails_in_round_two(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:  # round 1 is repaired, and round 2 is pruned
            raise CompressError("power failure")
        return fit_stage(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pruned, "fit_stage", fails_in_round_two)
        finished = shrunk_job.run_here()
    assert finished.returncode == 1 and "stage pruned: power failure" in finished.stderr
    finished = shrunk_job.run_here()
    assert finished.returncode == 0, finished.stderr
    assert "pruned: round-1 taken from the store" in finished.stderr

    made = variants(shrunk_job)
    half, control, dense = made["pruned"], made["shrunk"], made["distilled"]
    assert half["inference"]["macs"] <= 0.6 * dense["inference"]["macs"]
    assert control["inference"]["macs"] <= half["inference"]["macs"]
    assert control["inference"]["macs"] >= 0.9 * half["inference"]["macs"]
    parts = [part["what"] for part in half["training"]["parts"]]
    assert sum(what.startswith("importance: ") for what in parts) == 2
    assert sum(what.startswith("repair: forward and backward") for what in parts) == 2
    assert len(half["training"]["curve"]) == 2
    first, last = (point["macs"] for point in half["training"]["curve"])
    assert dense["training"]["macs"] < first < last <= half["training"]["macs"]
    assert half["training"]["macs"] == sum(part["macs"] for part in half["training"]["parts"])
    epochs = len(control["training"]["curve"])
    one_epoch = control["training"]["curve"][-1]["macs"] / epochs
    assert abs(control["training"]["macs"] - half["training"]["macs"]) <= one_epoch

    again = weights(shrunk_job, "pruned")
    assert all(np.array_equal(again[name], undisturbed[name]) for name in undisturbed)


def test_prune_stage_has_exactly_one_target(done_job: Callable[[], Job]) -> None:
    job = done_job()
    job.write(deployed=False)
    finished = job.run_here("--set", "stages.pruned.target_params=0.5")
    assert finished.returncode == 2
    assert "stages.pruned.target_params: excludes `target_macs`; keep one target" in finished.stderr
    job.recipe.write_text(job.recipe.read_text().replace("target_macs: 0.6, ", "ranking: sensitivity, "))
    finished = job.run_here()
    assert finished.returncode == 2 and "stages.pruned.target_macs: no target" in finished.stderr
    assert "stages.pruned.analyse: needed by `ranking: sensitivity`" in finished.stderr


@pytest.fixture
def searched_job(done_job: Callable[[], Job]) -> Job:
    """The finished job, with pruning by sensitivity analysis and with sparse weights."""
    job = done_job()
    job.write(deployed=False)
    job.recipe.write_text(job.recipe.read_text().replace("measure:", MEASURED + "measure:"))
    return job


REPAIR = "repair: {epochs: 2, batch: 16, lr: 0.02, views: 2}"
QUICK = f"""\
  - {{id: quick, kind: prune, from: distilled, target_latency: {{share: 0.95, batch: 4, rounds: 5}}, round_to: 4,
     {REPAIR}}}
"""
MEASURED = f"""\
  - {{id: spared, kind: prune, from: distilled, target_macs: 0.7, round_to: 4, ranking: sensitivity,
     analyse: [0.3, 0.6, 0.9], {REPAIR}}}
  - {{id: sparse, kind: sparsify, from: distilled, sparsity: 0.6, {REPAIR}}}
  - {{id: fours, kind: sparsify, from: distilled, pattern: "2:4", {REPAIR}}}
  - {{id: fours8, kind: quantize, from: fours, calibration_images: 32}}
  - {{id: sparse_files, kind: export, from: [sparse, fours8], runtimes: [openvino]}}
"""


@pytest.mark.slow
def test_sensitivity_is_recorded_and_zeros_stay_zero(searched_job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    mask_smallest = sparse.mask_smallest

    def masks_nothing_more(network: nn.Module, masks: dict[str, Mask], counted: int, sparsity: float) -> None:
        before = sum(int(mask.mask.sum()) for mask in masks.values())
        mask_smallest(network, masks, counted, sparsity)
        assert sum(int(mask.mask.sum()) for mask in masks.values()) == before  # all masked during repair

    with monkeypatch.context() as patch:
        patch.setattr(sparse, "mask_smallest", masks_nothing_more)
        finished = searched_job.run_here()
    assert finished.returncode == 0, finished.stderr
    made = variants(searched_job)
    dense = made["distilled"]["inference"]

    rows = made["spared"]["pruning"]["sensitivity"]
    assert {row["round"] for row in rows} == {1}
    assert all(row["loss"] == pytest.approx(rows[0]["loss"] + rows[0]["top1"] - row["top1"], abs=1e-5) for row in rows)
    assert made["spared"]["inference"]["macs"] <= 0.7 * dense["macs"]
    assert any(part["what"].startswith("sensitivity: ") for part in made["spared"]["training"]["parts"])
    assert "pruned alone" in report(searched_job)

    for name, share in (("sparse", 0.6), ("fours", 0.5)):
        record, stored = made[name]["sparsity"], weights(searched_job, name)
        layers = [value for key, value in stored.items() if value.ndim == 4]
        zeros = sum(int((value == 0).sum()) for value in layers)
        assert zeros >= record["zeros"] >= share * record["weights"] * 0.95
        assert record["compressed_bytes"] < record["parent_compressed_bytes"]
        assert made[name]["inference"]["macs"] == dense["macs"]
    fours = [v for k, v in weights(searched_job, "fours").items() if v.ndim == 4 and v.shape[1] % 4 == 0]
    for value in fours:
        groups = np.moveaxis(value, 1, -1).reshape(-1, 4)
        assert ((groups == 0).sum(1) >= 2).all()
    assert made["fours8"]["inference"]["quantized_convs"] > 0
    assert "Sparse weights" in report(searched_job)


@pytest.mark.slow
def test_killed_repair_resumes_without_a_new_latency_search(searched_job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage killed during repair resumes with the network that the search selected, and with its masks."""
    save = EpochCheckpoint.on_train_epoch_end

    def fails_after_an_epoch(self: EpochCheckpoint, trainer: Any, module: Any) -> None:
        save(self, trainer, module)
        raise CompressError("the power is gone")

    for name in ("quick", "sparse"):
        only(searched_job, name)
        assert searched_job.run_here().returncode == 0
        if name == "quick":
            reaches_its_latency(variants(searched_job))
        undisturbed = weights(searched_job, name)
        key = variants(searched_job)[name]["stage_key"]
        shutil.rmtree(searched_job.runs / "store" / key)
        with monkeypatch.context() as patch:
            patch.setattr(EpochCheckpoint, "on_train_epoch_end", fails_after_an_epoch)
            finished = searched_job.run_here()
        assert finished.returncode == 1 and f"stage {name}: the power is gone" in finished.stderr
        with monkeypatch.context() as patch:
            patch.setattr(pruned, "LatencySearch", None)
            finished = searched_job.run_here()
        assert finished.returncode == 0, finished.stderr
        assert f"{name}: resumes after epoch 1 of 2" in finished.stderr
        again = weights(searched_job, name)
        assert all(np.array_equal(again[key], undisturbed[key]) for key in undisturbed)


def reaches_its_latency(made: dict[str, dict[str, Any]]) -> None:
    trials = made["quick"]["pruning"]["latency_trials"]
    assert min(row["share"] for row in trials) <= 0.95
    assert made["quick"]["inference"]["macs"] in {row["macs"] for row in trials if row["share"] <= 0.95}
    widths = made["quick"]["pruning"]["widths"]
    assert any(after < before for before, after in widths.values())
    assert widths["fc"][0] == widths["fc"][1]


def only(job: Job, name: str) -> None:
    """Keep one of the added stages in the recipe."""
    job.write(deployed=False)
    stage = next(part for part in (QUICK + MEASURED).split("  - ") if part.startswith(f"{{id: {name},"))
    stage = stage.replace("repair: {", "repair: {ema: 0.9, ")
    job.recipe.write_text(job.recipe.read_text().replace("measure:", f"  - {stage}measure:"))


def report(job: Job) -> str:
    last = sorted((job.runs / "tiny").glob("*/report.html"), key=lambda path: path.stat().st_mtime_ns)[-1]
    return last.read_text()


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ('pattern: "2:4", sparsity: 0.5', "sparsity: `pattern: 2:4` fixes sparsity at 0.5"),
        ("repair: {select_on: validation}", "repair: only the last epoch has the full sparsity"),
        ("repair: {select_on: test}", "repair: checkpoint selection on the test split"),
    ],
)
def test_conflicting_sparsity_settings_are_rejected(done_job: Callable[[], Job], stage: str, message: str) -> None:
    job = done_job()
    job.write(deployed=False)
    line = f"  - {{id: sparse, kind: sparsify, from: distilled, {stage}}}\nmeasure:"
    job.recipe.write_text(job.recipe.read_text().replace("measure:", line))
    finished = job.run_here()
    assert finished.returncode == 2 and f"stages.sparse.{message}" in finished.stderr
