"""Whole runs on the tiny job, through the command line."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from recompute import recompute
from results_factory import example_record
from support import Job, typed

from compress.pipeline import runner
from compress.pipeline.failures import Failures
from compress.pipeline.run_folder import new_folder
from compress.recipe.load import load_recipe, parse_recipe
from compress.recipe.schema import Trainer
from compress.results import RunRecord
from compress.stages.evaluation import evaluate_and_store
from compress.utils.checksums import check_run
from compress.utils.errors import CompressError
from compress.utils.hashing import file_digest


def weights(job: Job) -> dict[str, str]:
    """Return the digest of each variant's weights."""
    store = job.runs / "store"
    keys = {variant["id"]: variant["stage_key"] for variant in job.results()["variants"]}
    return {
        name: file_digest(store / key / "model.safetensors")
        for name, key in keys.items()
        if (store / key / "model.safetensors").exists()
    }


def test_results_are_consistent(job: Job) -> None:
    results = job.results()
    assert results["schema_version"] == 3
    assert set(results) >= {"recipe", "environment", "data", "variants", "efficiency", "training_efficiency"}
    assert [v["id"] for v in results["variants"]] == ["teacher", "scratch", "distilled", "pruned", "int8"]
    for variant in results["variants"]:
        accuracy, inference = variant["accuracy"], variant["inference"]
        assert accuracy["n"] == 120 and accuracy["split"] == "test"
        assert accuracy["top1"] == accuracy["correct"] / accuracy["n"]
        assert accuracy["ci95"][0] <= accuracy["top1"] <= accuracy["ci95"][1]
        assert inference["uncounted_operators"] == []
        assert inference["macs"] > 0 and inference["params"] > 0 and inference["bytes"] > 0
        assert variant["training"]["macs"] == sum(part["macs"] for part in variant["training"]["parts"])
    by_id = {v["id"]: v for v in results["variants"]}
    assert by_id["pruned"]["inference"]["macs"] <= 0.6 * by_id["distilled"]["inference"]["macs"]
    assert by_id["pruned"]["training"]["macs"] > by_id["distilled"]["training"]["macs"] > 0
    int8 = by_id["int8"]["inference"]
    assert int8["macs"] == by_id["pruned"]["inference"]["macs"]
    assert int8["quantized_convs"] == int8["total_convs"] > 0
    assert int8["bit_operations"] == 64 * int8["macs"]
    assert by_id["pruned"]["inference"]["bit_operations"] == 1024 * int8["macs"]


def test_artifacts_run_and_agree_with_pytorch(job: Job) -> None:
    by_id = {v["id"]: v for v in job.results()["variants"]}
    for name in ("distilled", "int8"):
        artifacts = by_id[name]["artifacts"]
        assert {a["runtime"] for a in artifacts} == {"onnxruntime", "openvino"}
        for artifact in artifacts:
            assert artifact["top1_agreement"] >= 0.97, artifact
            assert artifact["bytes"] > 0
        rows = by_id[name]["inference"]["latency"]
        assert {(row["runtime"], row["batch"]) for row in rows} >= {("onnxruntime", 1), ("openvino", 4)}
        assert all(row["p50_ms"] > 0 and [len(rounds) for rounds in row["rounds_ms"]] == [5] for row in rows)
    run = sorted((job.runs / "tiny").iterdir())[0]
    for artifact in by_id["int8"]["artifacts"]:
        assert (run / artifact["path"]).exists()
    assert by_id["int8"]["artifacts"][0]["bytes"] < by_id["distilled"]["artifacts"][0]["bytes"] / 2


def test_savings_are_computed_against_both_references(job: Job) -> None:
    teacher, distilled = job.results()["efficiency"]
    assert teacher["reference"] == "teacher" and distilled["reference"] == "distilled"
    by_id = {v["id"]: v["inference"] for v in job.results()["variants"]}
    pruned = next(v for v in distilled["variants"] if v["id"] == "pruned")
    ratio = by_id["distilled"]["macs"] / by_id["pruned"]["macs"]
    assert math.isclose(pruned["doublings"]["macs"], math.log2(ratio), rel_tol=1e-9)


def test_all_figures_can_be_recomputed_from_the_results(job: Job) -> None:
    results = job.results()
    assert recompute(RunRecord.model_validate(results)) > 60


def test_every_file_and_every_variant_has_its_own_predictions(job: Job) -> None:
    results = RunRecord.model_validate(job.results())
    for variant in results.variants:
        assert variant.validation and variant.validation.split == "validation" and variant.validation.n == 18
        assert all(file.right and len(file.right) == 30 for file in variant.artifacts), "120 images in hexadecimal"
    files = {v.id: [file.runtime for file in v.files] for v in results.efficiency[0].variants}
    assert files["int8"] == ["onnxruntime", "openvino"] and "pytorch" in files["pruned"]


def test_second_run_takes_all_stages_from_the_store(done_job: Callable[[], Job]) -> None:
    job = done_job()
    assert job.run_here().returncode == 0  # the copy has other paths than the run that was copied
    before = job.results()
    done = job.run()
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("taken from the store") == 8  # seven stages and the latency
    after = job.results()
    for volatile in ("run", "command"):
        before.pop(volatile), after.pop(volatile)
    assert before == after


def test_the_call_with_resolved_settings_works_where_the_run_was_started(done_job: Callable[[], Job]) -> None:
    """Relative paths, of the data and of the runs, are looked for from there."""
    job = done_job()
    text = job.recipe.read_text()
    job.recipe.write_text(
        text.replace(f"path: {job.root}/", "path: ").replace(f"checkpoint: {job.root}/", "checkpoint: ")
    )
    first = typed("run", "tiny.yaml", "--runs", "runs", "--no-dry-run", cwd=job.root)
    assert first.returncode == 0, first.stderr
    run = max((job.runs / "tiny").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    (call,) = re.findall(r"<code>compress-model (.*RUN.*?)</code> with", (run / "report.html").read_text())
    words = call.replace("RUN", str(run.relative_to(job.root))).split()
    again = typed(*words, "--runs", "runs", "--no-dry-run", cwd=job.root)
    assert again.returncode == 0, again.stderr
    assert job.results()["run"]["made"] == []


def test_a_run_whose_upload_fails_is_finished_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_results(record: RunRecord, *rest: Any) -> None:
        (rest[-1] / "results.json").write_text(record.to_json())

    monkeypatch.setattr(runner, "prepare_job", lambda *_, **__: None)
    monkeypatch.setattr(runner, "_made_and_measured", lambda *_: (example_record(), None, Failures()))
    monkeypatch.setattr(runner, "write_run", write_results)
    monkeypatch.setattr(runner, "upload_run", Mock(side_effect=CompressError("s3://bucket: connection reset")))
    recipe = parse_recipe("name: sent\ndata: cifar10-sample\nstages: [{id: t, kind: teacher, teacher: embedded}]\n")
    with pytest.raises(CompressError, match="connection reset"):
        runner.run(recipe, tmp_path)
    (folder,) = (tmp_path / "sent").iterdir()
    assert [json.loads(line)["event"] for line in (folder / "log.jsonl").read_text().splitlines()] == ["done"]
    assert check_run(folder) == []


def test_changed_stage_reruns_with_its_descendants_only(done_job: Callable[[], Job]) -> None:
    job, threads = done_job(), torch.get_num_threads()
    done = job.run_here("--set", "stages.pruned.target_macs=0.4", "--set", f"measure.threads={threads + 1}")
    assert done.returncode == 0, done.stderr
    assert torch.get_num_threads() == threads  # otherwise the next run of this process would train to other bits
    lines = [line for line in done.stderr.splitlines() if line.startswith("[")]
    stored = {line.split()[1].rstrip(":") for line in lines if "taken from the store" in line}
    made = {line.split()[1].rstrip(":") for line in lines} - stored
    assert made == {"pruned", "int8", "files/int8"}


def test_damaged_entry_is_reported_and_made_again(done_job: Callable[[], Job]) -> None:
    job = done_job()
    before = weights(job)
    key = next(v["stage_key"] for v in job.results()["variants"] if v["id"] == "distilled")
    victim = job.runs / "store" / key / "model.safetensors"
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(content)
    done = job.run()
    assert done.returncode == 0, done.stderr
    assert "is damaged (model.safetensors has changed); rebuilding it" in done.stderr
    assert weights(job) == before


def stop_inside(job: Job, stage: str, how: signal.Signals) -> tuple[int, str]:
    """Start a run, and send it a signal when `stage` has checkpointed at least one epoch."""
    started = job.start()
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (
            any((job.runs / "store" / "partial").glob("*/scratch/last.ckpt"))
            and f"] {stage}:" in started.err.read_text()
        ):
            break
        time.sleep(0.01)
    os.kill(started.pid, how)
    done = started.wait()
    return done.returncode, done.stderr


@pytest.mark.parametrize(("how", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_interrupted_run_reports_how_to_resume(done_job: Callable[[], Job], how: signal.Signals, expected: int) -> None:
    job = done_job()
    job.write(epochs=300)
    status, said = stop_inside(job, "distilled", how)
    assert status == expected and "rerun the same command to resume" in said and "Traceback" not in said, said


def test_killed_distillation_resumes_to_the_same_bits(make_job: Callable[[], Job]) -> None:
    job, undisturbed = make_job(), make_job()
    for each in (job, undisturbed):
        each.write(epochs=12, deployed=False)
    stop_inside(job, "distilled", signal.SIGKILL)
    done = job.run()
    assert done.returncode == 0, done.stderr
    assert "distilled: resumes after epoch" in done.stderr
    assert undisturbed.run().returncode == 0
    assert weights(job) == weights(undisturbed)
    assert not any((job.runs / "store" / "partial").iterdir())


@pytest.mark.slow
def test_images_in_their_files_give_the_same_run(make_job: Callable[[], Job]) -> None:
    pixels, files = make_job(), make_job()
    for job, settings in ((pixels, ()), (files, ("--set", "data.images=files", "--set", "data.workers=2"))):
        done = job.run(*settings)
        assert done.returncode == 0, done.stderr
    assert weights(pixels) == weights(files)
    assert not list((files.runs / "store").glob("*/images-*"))
    variants = [[(each["id"], each["accuracy"]) for each in job.results()["variants"]] for job in (pixels, files)]
    assert variants[0] == variants[1] and len(variants[0]) == 5


def test_impossible_run_folders_are_reported(job: Job, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = typed("run", job.recipe, "--runs", tmp_path / "file")
    assert done.returncode == 1 and "file/tiny: Not a directory; choose another folder with --runs" in done.stderr
    done = typed("run", job.recipe, "--runs", tmp_path, "--fresh", "--set", "trainer.devices=2")
    assert done.returncode == 2 and "--fresh needs `trainer.devices: 1`" in done.stderr
    started, recipe = datetime(2026, 1, 2, 3, 4, 5), load_recipe(str(job.recipe))
    assert [new_folder(tmp_path, recipe, started).name for _ in range(2)] == ["20260102-030405", "20260102-030405-2"]
    for _ in range(3, 1000):
        new_folder(tmp_path, recipe, started)
    with pytest.raises(CompressError, match=r"cannot create a run folder in .*tiny"):
        new_folder(tmp_path, recipe, started)


def test_non_finite_logits_are_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "compress.stages.evaluation.predict_split", lambda *_, **__: np.full((2, 3), np.nan, np.float32)
    )
    data, recipe = SimpleNamespace(test=None, validation=()), SimpleNamespace(trainer=Trainer())
    context: Any = SimpleNamespace(
        data=data,
        recipe=recipe,
        rendered=lambda *_: (None, None),
        device_for=lambda _: torch.device("cpu"),
        batch_size=lambda _: 2,
    )
    with pytest.raises(CompressError, match="non-finite logits on the test split"):
        evaluate_and_store(context, "made", tmp_path, (torch.nn.Identity(), None), None, None)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_concurrent_runs_share_a_store(make_job: Callable[[], Job]) -> None:
    job = make_job()
    job.write(deployed=False)
    both = [started.wait() for started in [job.start(), job.start()]]
    errors = [done.stderr for done in both]
    assert [done.returncode for done in both] == [0, 0], errors
    assert any("another run is making" in error for error in errors)
    runs = [json.loads(path.read_text()) for path in (job.runs / "tiny").glob("*/results.json")]
    assert len(runs) == 2 and runs[0]["variants"] == runs[1]["variants"]


@pytest.mark.parametrize(
    "name", ["report.html", "report.md", "model_card.md", "results.json", "recipe.yaml", "log.jsonl"]
)
def test_run_writes(job: Job, name: str) -> None:
    run: Path = sorted((job.runs / "tiny").iterdir())[0]
    assert (run / name).stat().st_size > 0
