"""`runtimes: auto`: export to all installed runtimes, and select the fastest within the accuracy loss per batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recipe.recipe_texts import GOOD
from results_factory import latency_row
from support import Job, photographs
from torch import nn

from compress.api.run import RunResults
from compress.benchmark.runtime_selection import choose
from compress.deployment.coverage import Coverage
from compress.deployment.export import Target
from compress.deployment.runtimes import find_runtime
from compress.efficiency.timing import fastest, middle
from compress.recipe.load import parse_recipe
from compress.report.variants import choice_line
from compress.results import RunRecord, RuntimeChoice, ValidationCheck
from compress.results.read import read_run
from compress.stages.export import ExportStage, make
from compress.stages.export.files import Files
from compress.stages.quantize import QuantizeStage
from compress.utils.errors import CompressError, RecipeError
from compress.utils.precision import file_name

INSTALLED = ("onnxruntime", "openvino", "ncnn")
RECIPE = """\
name: tiny
data: {{source: image-folder, path: {root}/images, resolution: 32}}
stages:
  - {{id: first, kind: train, student: test_resnet, epochs: 1, batch: 16, lr: 0.05}}
  - {{id: files, kind: export, from: [first], runtimes: auto, auto_loss: 0.99,
     precision: [fp32, fp16], triton: true}}
measure: {{batches: [1, 2], rounds: 5, processes: 1, energy: off}}
worth: {{references: [first]}}
"""


def around(centre: float, spread: float = 0.01, seed: int = 0) -> list[list[float]]:
    """Rounds of three processes."""
    rounds: list[list[float]] = np.random.default_rng(seed).normal(centre, spread * centre, (3, 10)).tolist()
    return rounds


def chosen(times: dict[str, list[list[float]]], allowed: float, **losses: float) -> RuntimeChoice:
    checks = {name: ValidationCheck(loss=loss, agreement=1 - loss, n=200) for name, loss in losses.items()}
    rows = {name: latency_row(name, 1, middle(rounds), rounds_ms=rounds) for name, rounds in times.items()}
    return choose(rows, checks, allowed, batch=1, left_out={})


def test_first_of_equally_fast_runtimes_is_selected() -> None:
    times = {"a": around(3.0), "b": around(2.0, 0.1, 1), "c": around(1.99, 0.1, 2), "d": around(2.5)}
    assert fastest(times) == ["b", "c"]
    assert fastest({"c": times["c"], "b": times["b"]}) == ["c", "b"]
    # A wide interval does not tie runtimes that are far apart.
    assert fastest({"a": [[3.0, 3.0, 1.0, 3.0, 1.0]], "b": [[1.0, 2.0, 2.0, 2.0, 3.0]]}) == ["b"]


def test_an_artifact_that_is_slower_than_in_fp32_is_not_selected_however_fast() -> None:
    times = {"a": around(3.0), "b": around(1.0)}
    checks = {name: ValidationCheck(loss=0.0, agreement=1.0, n=200) for name in times}
    rows = {name: latency_row(name, 1, middle(rounds), rounds_ms=rounds) for name, rounds in times.items()}
    record = choose(rows, checks, 0.005, batch=1, left_out={}, slower={"b"})
    assert record.runtime == "a" and [each.slower_than_fp32 for each in record.candidates] == [None, True]
    assert "and are not slower than in FP32: a at batch 1" in choice_line("int8", [record])
    none = choose(rows, checks, 0.005, batch=1, left_out={}, slower={"a", "b"})
    assert none.runtime is None and none.tied == () and all(each.holds for each in none.candidates)


def test_inaccurate_artifact_is_not_selected_however_fast() -> None:
    times = {"a": around(3.0), "b": around(1.0), "c": around(2.0)}
    record = chosen(times, 0.005, a=0.0, b=0.02, c=0.005)
    assert record.runtime == "c" and record.tied == ()
    assert [row.holds for row in record.candidates] == [True, False, True]
    ratios = [row.ratio_to_choice for row in record.candidates]
    assert None not in ratios
    assert ratios[0] < 1 < ratios[1] and ratios[2] == 1
    none = chosen(times, 0.005, a=0.1, b=0.1, c=0.1)
    assert none.runtime is None and none.candidates[0].ratio_to_choice is None


def test_choices_of_a_variant_are_one_line() -> None:
    fixed: dict[str, Any] = {"allowed_loss": 0.005, "candidates": (), "left_out": {}}
    first = RuntimeChoice(batch=1, runtime="a", tied=("b",), **fixed)
    line = choice_line("int8", (first, RuntimeChoice(batch=16, runtime=None, tied=(), **fixed)))
    assert "a (as fast within the interval: b) at batch 1, none at batch 16" in line and "0.5 points" in line
    assert choice_line("int8", ()) == ""


def test_auto_excludes_other_runtimes() -> None:
    stage = "from: [distilled, int8]\n"
    for given in ("auto", "[auto]"):
        assert parse_recipe(GOOD.replace(stage, f"{stage}    runtimes: {given}\n")).stages[-1].auto  # type: ignore[union-attr]
    with pytest.raises(RecipeError, match="'auto' selects all runtimes"):
        parse_recipe(GOOD.replace(stage, f"{stage}    runtimes: [auto, openvino]\n"))
    with pytest.raises(RecipeError, match="or 'auto', not 'openvin'; did you mean 'openvino'"):
        parse_recipe(GOOD.replace(stage, f"{stage}    runtimes: [openvin]\n"))


def test_auto_selects_runtimes_that_support_the_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.stages.export.missing", lambda name: [] if name in INSTALLED else ["something"])
    recipe = parse_recipe(GOOD.replace("from: [distilled, int8]\n", "from: [distilled, int8]\n    runtimes: auto\n"))
    stages = {stage.id: stage for stage in recipe.stages}
    export = stages["files"]
    assert isinstance(export, ExportStage)
    assert export._runtimes_for(stages["distilled"], recipe) == ["onnxruntime", "openvino", "ncnn"]
    assert export._runtimes_for(stages["int8"], recipe) == ["onnxruntime", "openvino", "ncnn"]
    written = stages["int8"].model_copy(update={"method": "torchao"})
    assert export._runtimes_for(written, recipe) == ["onnxruntime", "openvino"], "ncnn has a method of its own only"
    monkeypatch.setattr("compress.stages.export.missing", lambda name: [] if name == "tensorrt-engine" else ["it"])
    assert export._runtimes_for(written, recipe) == [], "its integers are for x86"
    portable = written.model_copy(update={"target": "portable"})
    assert export._runtimes_for(portable, recipe) == ["tensorrt-engine"]


def finished(job: Job) -> tuple[Path, RunRecord]:
    """The folder of the newest run of a job, and its record."""
    folder = max((job.runs / "tiny").iterdir())
    return folder, read_run(folder)


@pytest.mark.slow
def test_run_exports_to_every_installed_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> Path:
        raise CompressError("ncnn has no such operator")

    monkeypatch.setattr("compress.stages.export.missing", lambda name: [] if name in INSTALLED else ["something"])
    monkeypatch.setattr(find_runtime("ncnn"), "build", fails)
    job = Job(tmp_path)
    for split, count in (("train", 12), ("test", 4)):
        photographs(tmp_path / "images" / split, count, seed=count)
    job.recipe.write_text(RECIPE.format(root=tmp_path))
    done = job.run_here()
    assert done.returncode == 0, done.stderr
    (first,) = job.results()["variants"]
    files = [(precision, runtime) for precision in ("fp32", "fp16") for runtime in ("onnxruntime", "openvino")]
    assert [(row["precision"], row["runtime"]) for row in first["artifacts"]] == files
    assert [row["path"].split("/")[2] for row in first["artifacts"]] == [
        "onnx",
        "openvino",
        "onnx-fp16",
        "openvino-fp16",
    ]
    assert all(sum(row["macs_by_precision"].values()) == pytest.approx(1) for row in first["artifacts"])
    sizes = {(row["precision"], row["runtime"]): row["bytes"] for row in first["artifacts"]}
    assert all(sizes["fp16", runtime] < 0.7 * sizes["fp32", runtime] for _, runtime in files)
    timed = [(row["precision"], row["runtime"]) for row in first["inference"]["latency"] if row["batch"] == 1]
    assert sorted(timed) == sorted([("fp32", "pytorch"), *files])
    assert [choice["batch"] for choice in first["choices"]] == [1, 2]
    for choice in first["choices"]:
        assert choice["left_out"] == dict.fromkeys(["ncnn", "ncnn fp16"], "ncnn has no such operator")
        assert choice["allowed_loss"] == 1.0
        rows = {(row["precision"], row["runtime"]): row for row in choice["candidates"]}
        assert list(rows) == files and all(row["holds"] for row in rows.values())
        assert set(choice["tied"]) < {file_name(runtime, precision) for precision, runtime in files}
        assert rows[choice["precision"], choice["runtime"]]["ratio_to_choice"] == 1
        assert all(rows[each]["validation_agreement"] == 1 for each in files if each[0] == "fp32")
    run = RunResults(*finished(job))
    for precision in (None, "fp16"):
        found = run.variants["first"].artifact("openvino", precision)
        assert found.parent.name == ("openvino-fp16" if precision else "openvino") and found.is_file()
    assert {path.parent.name for path in run.folder.glob("triton/*/config.pbtxt")} == {"first", "first-fp16"}
    (entry,) = run.record.efficiency
    assert [file.precision for file in entry.reference_files] == [None, "fp32", "fp32", "fp16", "fp16"]
    page = next((job.runs / "tiny").glob("*/report.md")).read_text()
    assert "Fastest file of first among those that lose at most 100 points" in page
    again = job.run_here()
    assert again.returncode == 0 and "latency: taken from the store" in again.stderr + again.stdout
    job.recipe.write_text(RECIPE.format(root=tmp_path).replace(", triton: true", ""))
    for installed, message in (
        (("ncnn",), "stage files/first: export failed for every installed runtime: ncnn has no such operator"),
        ((), "stage files/first: no installed runtime supports first; see `compress-model doctor`"),
    ):
        monkeypatch.setattr(
            "compress.stages.export.missing", lambda name, given=installed: [] if name in given else ["some"]
        )
        failed = job.run_here()
        assert failed.returncode == 1 and message in failed.stderr, failed.stderr


def test_quantized_artifact_that_runs_in_float_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_runtime("onnxruntime"), "coverage", lambda path: Coverage(0, 5, 0, 100))
    logits = np.zeros((1, 1), np.float32)
    stage = QuantizeStage.model_validate({"id": "int8", "kind": "quantize", "from": "a"})
    variant = make._Variant("int8", nn.Identity(), None, stage, None, logits)  # type: ignore[arg-type]
    with pytest.raises(CompressError, match="onnxruntime runs none of the 5 convolutions of int8 in integer"):
        make._evaluate(None, Target("onnxruntime"), Path("model.onnx"), variant, Files({}), Path())  # type: ignore[arg-type]
