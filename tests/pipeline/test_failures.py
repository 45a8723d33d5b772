"""A stage or a file that cannot be made: the rest is made and reported, with the reason, and the exit status is 1."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from support import Job, follows_the_schema

from compress.benchmark.latency import LATENCY, LatencyFailed, NotTimed
from compress.deployment.coverage import Coverage
from compress.deployment.onnx_runtime import OnnxRuntime
from compress.deployment.timing import ByBatch, Candidate, Schedule, TimingFailed
from compress.pipeline.failures import Failures, to_make
from compress.pipeline.measure import measure_latency
from compress.pipeline.plan import make_plan
from compress.recipe.load import parse_recipe
from compress.results import LatencyMeasurements
from compress.results.stored import FAILED, FailedFiles
from compress.store.store import Store
from compress.store.stored_entry import lacks_stages
from compress.utils.checksums import check_run
from compress.utils.errors import CompressError


def last_run(job: Job) -> Path:
    return max((job.runs / "tiny").iterdir(), key=lambda path: path.stat().st_mtime_ns)


@pytest.mark.slow
def test_a_file_that_failed_in_a_killed_try_has_not_failed(
    done_job: Callable[[], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = done_job()

    def stops(*_: object) -> None:
        raise CompressError("power failure")

    setting = ("--set", "stages.files.triton=false", "--set", "stages.files.from=[int8]")
    with monkeypatch.context() as patch:
        patch.setattr(OnnxRuntime, "coverage", lambda self, path: Coverage(0, 4, 0, 10))
        patch.setattr("compress.stages.export.make.write_sums", stops)
        done = job.run_here(*setting)
    assert done.returncode == 1 and "stage files/int8: power failure" in done.stderr
    for made in (["files/int8"], []):
        done = job.run_here(*setting)
        assert done.returncode == 0, done.stderr
        assert job.results()["run"]["made"] == made and "failed" not in job.results()


@pytest.mark.slow
def test_a_failed_file_is_reported_beside_those_that_were_made(
    done_job: Callable[[], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = done_job()
    covered = OnnxRuntime.coverage

    def none_for_int8(self: OnnxRuntime, path: Path) -> Coverage:
        return Coverage(0, 4, 0, 10) if "partial" in path.parts else covered(self, path)

    setting = ("--set", "stages.files.triton=false")  # so that its files are made again
    with monkeypatch.context() as patch:
        patch.setattr(OnnxRuntime, "coverage", none_for_int8)
        done = job.run_here(*setting)
    reason = (
        "onnxruntime runs none of the 4 convolutions of int8 in integer arithmetic; export its float network to "
        "onnxruntime"
    )
    assert done.returncode == 1 and f"error: stage files/int8: onnxruntime: {reason}" in done.stderr
    results, run = job.results(), last_run(job)
    follows_the_schema(results)
    assert results["failed"] == [{"stage": "files/int8", "runtime": "onnxruntime", "reason": reason}]
    files = {variant["id"]: [file["runtime"] for file in variant["artifacts"]] for variant in results["variants"]}
    assert files["int8"] == ["openvino"] and files["distilled"] == ["onnxruntime", "openvino"]
    assert (run / "artifacts/int8/openvino/model.xml").is_file() and not (run / "artifacts/int8/onnx").exists()
    for page in ("report.html", "report.md"):
        assert f"files/int8 failed in onnxruntime: {reason}" in (run / page).read_text()
    assert check_run(run) == []
    timed = next(variant for variant in results["variants"] if variant["id"] == "int8")["inference"]["latency"]
    assert {row["runtime"] for row in timed} == {"openvino"}
    done = job.run_here(*setting)  # the file is tried again, and the rest is taken from the store
    assert done.returncode == 0, done.stderr
    assert "files/int8: exporting" in done.stderr and "int8: taken from the store" in done.stderr
    results = job.results()
    assert "failed" not in results
    int8 = next(variant for variant in results["variants"] if variant["id"] == "int8")
    assert [file["runtime"] for file in int8["artifacts"]] == ["onnxruntime", "openvino"]
    assert {row["runtime"] for row in int8["inference"]["latency"]} == {"onnxruntime", "openvino"}


def test_files_that_failed_are_tried_again_unless_another_run_uses_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, said, used = Store(tmp_path), list[str](), {"a" * 24}
    export: Any = SimpleNamespace(id="files/small", key="a" * 24)

    def make(folder: Path) -> None:
        FailedFiles(reasons={"openvino": "no such layer"}).write(folder / FAILED)

    store.get(export.key, export.id, make)
    monkeypatch.setattr("compress.store.store.keys_in_use", lambda *_, **__: used)
    monkeypatch.setattr("compress.pipeline.failures.say", said.append)
    assert to_make([export], store) == [] and store.path(export.key).is_dir()
    assert said == ["files/small: failed files are not tried again: another run uses the others, or they are read-only"]
    used.clear()
    assert to_make([export], store) == [export] and not store.path(export.key).exists() and len(said) == 1


@pytest.mark.parametrize(
    ("raised", "reason", "target"),
    [
        (CompressError("no such layer"), "no such layer", "0.61"),
        (KeyError("conv9"), "unexpected KeyError: 'conv9'", "0.62"),
    ],
    ids=["known", "unexpected"],
)
def test_stages_that_do_not_need_a_failed_one_are_made_and_reported(
    done_job: Callable[[], Job], monkeypatch: pytest.MonkeyPatch, raised: Exception, reason: str, target: str
) -> None:
    job = done_job()
    job.recipe.write_text(job.recipe.read_text().replace("target_macs: 0.6", f"target_macs: {target}"))

    def fails(*_: Any, **__: Any) -> None:
        raise raised

    with monkeypatch.context() as patch:
        patch.setattr("compress.stages.prune.make.prune_channels", fails)
        done = job.run_here("--no-dry-run")
    assert done.returncode == 1 and f"error: stage pruned: {reason}" in done.stderr.splitlines()
    assert "int8: skipped, as pruned failed" in done.stderr and "Traceback" not in done.stderr
    results = job.results()
    follows_the_schema(results)
    assert [variant["id"] for variant in results["variants"]] == ["teacher", "scratch", "distilled"]
    assert results["failed"] == [
        {"stage": "pruned", "reason": reason},
        {"stage": "int8", "reason": "needs pruned, which failed"},
        {"stage": "files/int8", "reason": "needs int8, which failed"},
    ]
    log = (last_run(job) / "log.jsonl").read_text()
    events = [json.loads(line) for line in log.splitlines()]
    assert "stage failed" in [event["event"] for event in events]
    assert events[-1]["event"] == "done" and events[-1]["failed"] == ["files/int8", "int8", "pruned"]
    assert lacks_stages(log)
    failed = next(event for event in events if event["event"] == "stage failed")
    assert type(raised).__name__ in failed["trace"].splitlines()[-1] and "prune_channels" in failed["trace"]


def test_without_a_reference_there_is_nothing_to_report(
    done_job: Callable[[], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = done_job()
    job.recipe.write_text(job.recipe.read_text().replace("references: [teacher, distilled]", "references: [pruned]"))

    def fails(*_: Any, **__: Any) -> None:
        raise CompressError("no such layer")

    with monkeypatch.context() as patch:
        patch.setattr("compress.stages.prune.make.prune_channels", fails)
        done = job.run_here("--set", "stages.pruned.target_macs=0.62")
    assert done.returncode == 1 and "error: stage pruned: no such layer" in done.stderr
    assert not (last_run(job) / "results.json").exists()


def test_classes_are_checked_though_the_same_teacher_is_stored(done_job: Callable[[], Job]) -> None:
    job = done_job()
    assert job.run_here("--set", "stages.teacher.teacher.batch=32").returncode == 0
    done = job.run_here("--set", "stages.teacher.teacher.classes=[cat, dog, cow]")
    assert done.returncode != 0 and "was trained for other classes (cat, dog, cow)" in done.stderr
    assert "teacher: taken from the store" not in done.stderr


def test_what_cannot_be_timed_is_reported_beside_the_latency_of_the_others(
    done_job: Callable[[], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, killed = done_job(), "its process was killed by SIGKILL; leave it out"
    crash = {("openvino", "int8"), ("pytorch", "pruned")}

    def together(candidates: dict[str, Candidate], _: object, schedule: Schedule, process: int = 0) -> ByBatch:
        for key, candidate in candidates.items():
            if process == 1 and (candidate.runtime, key) in crash:
                raise TimingFailed(candidates, key, killed)
        return {batch: {key: [[[1.0], [1.1], [1.0]]] for key in candidates} for batch in schedule.batches}

    monkeypatch.setattr("compress.benchmark.latency.time_together", together)
    setting = ("--set", "measure={batches: [1], rounds: 6, processes: 2, energy: off}")
    done = job.run_here(*setting)
    lines = [
        f"error: stage pruned: pytorch: latency: {killed}",
        f"error: stage files/int8: openvino: latency: {killed}",
    ]
    assert done.returncode == 1 and [line for line in done.stderr.splitlines() if line.startswith("error")] == lines
    results, run = job.results(), last_run(job)
    follows_the_schema(results)
    assert results["failed"] == [
        {"stage": "pruned", "runtime": "pytorch", "reason": f"latency: {killed}"},
        {"stage": "files/int8", "runtime": "openvino", "reason": f"latency: {killed}"},
    ]
    timed = {each["id"]: [row["runtime"] for row in each["inference"]["latency"]] for each in results["variants"]}
    assert timed["pruned"] == [] and timed["int8"] == ["onnxruntime"]
    assert timed["distilled"] == ["pytorch", "onnxruntime", "openvino"]
    assert f"files/int8 failed in openvino: latency: {killed}" in (run / "report.md").read_text()
    assert check_run(run) == []
    crash.clear()
    done = job.run_here(*setting)  # all are tried again
    assert done.returncode == 0, done.stderr
    variants = {each["id"]: each["inference"]["latency"] for each in job.results()["variants"]}
    assert [row["runtime"] for row in variants["int8"]] == ["onnxruntime", "openvino"] and variants["pruned"]
    assert "latency: taken from the store" in job.run_here(*setting).stderr


def test_what_is_timed_again_beside_a_failure_replaces_the_earlier_record_unless_another_run_uses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = "data: cifar10-sample\nstages: [{id: teacher, kind: teacher, teacher: embedded}]"
    store, said, used = Store(tmp_path), list[str](), set[str]()
    plan = make_plan(parse_recipe(recipe), store)

    def memory_after(measured: int) -> tuple[int | None, list[str]]:
        """Measure so many bytes in a run that cannot time a file; return the bytes that it reports, and its events."""
        record = LatencyMeasurements(latency={}, peak_memory_bytes={"teacher": measured}, gpu=None)
        failed = [NotTimed(plan.stage("teacher"), "pytorch", "killed")]
        monkeypatch.setattr(
            "compress.benchmark.latency.benchmark_latency", Mock(side_effect=LatencyFailed(record, failed))
        )
        job: Any = SimpleNamespace(plan=plan, store=Store(tmp_path), log=Mock(), context=Mock())
        key = measure_latency(job, Failures()).latency_key
        used.add(key)
        found = LatencyMeasurements.read(store.path(key) / LATENCY)
        return found.peak_memory_bytes["teacher"], [call.args[0] for call in job.log.write.call_args_list]

    in_use = set[str]()
    monkeypatch.setattr("compress.store.store.keys_in_use", lambda *_, **__: in_use)
    monkeypatch.setattr("compress.pipeline.measure.say", said.append)
    assert memory_after(1) == (1, ["not measured", "made"])
    assert memory_after(2) == (2, ["not measured", "made"])
    in_use |= used
    assert memory_after(3) == (2, ["not measured"])
    taken = "latency: an earlier record is taken instead: another run uses it, or it is read-only"
    assert [line for line in said if "earlier" in line] == [taken]
