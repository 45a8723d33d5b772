"""Variants of distillation on the tiny job, through the command line."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from support import Job, environment


@pytest.fixture
def done(done_job: Callable[[], Job]) -> Callable[..., tuple[dict[str, Any], str, Job]]:
    """Rerun the finished job with changes; return the variant `distilled`, the console output and the job."""

    def rerun(*changes: str, apart: bool = False) -> tuple[dict[str, Any], str, Job]:
        job = done_job()
        job.write(deployed=False)
        settings = [word for change in changes for word in ("--set", change)]
        if apart:  # not forked: Lightning starts further processes by the command line of the first
            finished = subprocess.run(job.command(*settings), capture_output=True, text=True, env=environment())
        else:
            finished = job.run_here(*settings)
        assert finished.returncode == 0, finished.stderr
        return next(v for v in job.results()["variants"] if v["id"] == "distilled"), finished.stderr, job

    return rerun


def weights(job: Job, variant: dict[str, Any]) -> dict[str, np.ndarray]:
    return load_file(job.runs / "store" / variant["stage_key"] / "model.safetensors")


def entry(job: Job) -> dict[str, Any]:
    return next(v for v in job.results()["variants"] if v["id"] == "distilled")


@pytest.mark.slow
@pytest.mark.parametrize("teacher", ["stored", "live"])
def test_a_network_trained_on_labels_in_the_run_teaches(job: Job, done: Callable[..., Any], teacher: str) -> None:
    variant, output, copied = done("stages.distilled.from=scratch", f"stages.distilled.teacher={teacher}")
    assert "scratch: taken from the store" in output and "distilling scratch" in output
    training = {v["id"]: v["training"] for v in copied.results()["variants"]}
    assert training["scratch"]["teacher_pretraining"]["macs"] == 0
    spent = {part["what"]: part["macs"] for part in variant["training"]["parts"]}
    embedded = {"stored": "teacher: 2 views of 96 images", "live": "teacher: live, 4 epochs"}[teacher]
    (passes,) = (v["inference"]["macs"] for v in copied.results()["variants"] if v["id"] == "scratch")
    assert spent[embedded] == {"stored": 2, "live": 4}[teacher] * 96 * passes
    for learner in ("distilled", "pruned"):
        of_teacher = training[learner]["teacher_pretraining"]
        assert of_teacher["macs"] == training["scratch"]["macs"] and "fine_tuning" not in of_teacher
        assert of_teacher["source"] == "training of scratch, a stage of this recipe"
    assert not np.array_equal(*(weights(each, entry(each))["fc.weight"] for each in (job, copied)))


@pytest.mark.slow
def test_live_teacher_trains_the_same_student_at_a_higher_cost(job: Job, done: Callable[..., Any]) -> None:
    stored = entry(job)
    live, _, copied = done("stages.distilled.teacher=live", apart=True)  # in a separate process, as the other one
    one, other = weights(job, stored), weights(copied, live)
    assert all(np.allclose(one[name], other[name], atol=1e-2) for name in one)
    teacher = job.results()["variants"][0]["inference"]["macs"]
    live_parts = {part["what"]: part["macs"] for part in live["training"]["parts"]}
    assert live_parts["teacher: live, 4 epochs"] == 4 * 96 * teacher
    stored_parts = {part["what"]: part["macs"] for part in stored["training"]["parts"]}
    assert stored_parts["teacher: 2 views of 96 images"] == 2 * 96 * teacher


@pytest.mark.slow
def test_verification_rejects_wrong_cached_embeddings(done_job: Callable[[], Job]) -> None:
    job = done_job()
    job.write(deployed=False)
    changed = 0
    for file in (job.runs / "store").glob("*/embeddings.npy"):
        array = np.load(file)
        rolled = np.roll(array, 1, axis=0)
        shutil.rmtree(file.parent)  # a new entry with a valid checksum
        file.parent.mkdir()
        np.save(file, rolled)
        from compress.store.manifest import seal_entry

        seal_entry(file.parent, file.parent.name, "embeddings")
        changed += 1
    assert changed == 2
    finished = job.run_here("--set", "stages.distilled.verify=40", "--set", "stages.distilled.lr=0.04")
    assert finished.returncode == 1
    assert (
        "the stored embedding of view" in finished.stderr
        and "stage distilled: " in finished.stderr
        and "run again" in finished.stderr
    )


@pytest.mark.slow
def test_report_marks_checkpoint_selection_on_test(done: Callable[..., Any]) -> None:
    variant, _, job = done("stages.distilled.select_on=test", "allow=[test-selection]")
    assert variant["training"]["selected_on"] == "test"
    later = {v["id"]: v["training"]["selected_on"] for v in job.results()["variants"]}
    assert later["pruned"] == "test" and later["scratch"] == "last"
    report = sorted((job.runs / "tiny").glob("*/report.md"), key=lambda p: p.stat().st_mtime_ns)[-1].read_text()
    assert "The checkpoint of distilled, pruned was selected on the test images" in report
    assert not [pair for pair in job.results()["training_efficiency"] if pair["variant"] == "distilled"]


@pytest.mark.slow
def test_published_accuracy_is_reported_beside_the_measured_one(done: Callable[..., Any]) -> None:
    row = {"model": "ResNet18", "device": "a board", "setting": "FP16", "images_per_s": 1420.2, "memory_mb": 315.0}
    variant, output, job = done(f"stages.distilled.published={{top1: 0.9688, source: somewhere, inference: [{row}]}}")
    assert "distilled: taken from the store" in output
    assert variant["published"] == {"top1": 0.9688, "source": "somewhere"}
    assert variant["published_inference"] == [row | {"latency_ms": None, "source": "somewhere"}]
    report = sorted((job.runs / "tiny").glob("*/report.md"), key=lambda p: p.stat().st_mtime_ns)[-1].read_text()
    assert "published top-1" in report and "96.9%" in report


@pytest.mark.slow
def test_probe_fits_the_classes_of_the_embedded_teacher(done: Callable[..., Any]) -> None:
    changes = ["stages.teacher.teacher={use: embedded, head: probe}", "stages.distilled.losses.embedding=1"]
    variant, output, job = done(*changes, "stages.distilled.classifier=teacher", "stages.distilled.ema=0.9")
    assert "probe: weight decay" in output
    teacher = job.results()["variants"][0]
    assert teacher["accuracy"]["top1"] > 0.9  # the zero-shot head does not know these classes
    assert teacher["training"]["parts"][0]["what"] == "probe: embeddings of 66 images"
    assert variant["accuracy"]["top1"] > 0.5


@pytest.mark.slow
def test_two_processes_fill_the_store_once_and_train_together(
    job: Job, done: Callable[..., Any], tmp_path: Path
) -> None:
    changes = ["trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu", "seed=4"]
    variant, output, copied = done(*changes, apart=True)
    assert output.count("distilled: distilling teacher") == 1 and "waiting for it" not in output
    before = {file.parent.name for file in (job.runs / "store").glob("*/embeddings.npy")}
    after = {file.parent.name for file in (copied.runs / "store").glob("*/embeddings.npy")}
    assert len(after - before) == 2  # two views with the new seed, each once
    assert variant["training"]["macs"] == entry(job)["training"]["macs"]
    assert len(list((copied.runs / "tiny").iterdir())) == 2  # the second process creates no run
    assert not list((copied.runs / "store" / "partial").iterdir())
    assert variant["training"]["curve"][-1]["top1"] >= entry(job)["training"]["curve"][-1]["top1"] - 0.1
