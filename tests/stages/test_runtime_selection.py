"""`runtimes: auto`: every runtime that is here, and the fastest file that holds the accuracy by batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recipe.recipe_texts import GOOD
from support import Job, photographs

from compress.deployment import ncnn
from compress.deployment.coverage import Coverage
from compress.measurement.latency import fastest
from compress.pipeline.plan import _runtimes
from compress.recipe.load import parse_recipe
from compress.recipe.schema import ExportStage
from compress.report.variants import choice_line
from compress.results import RuntimeChoice
from compress.stages.export import _check
from compress.stages.runtime_selection import choose
from compress.utils.errors import CompressError, RecipeError

HERE = ("onnxruntime", "openvino", "ncnn")
RECIPE = """\
name: tiny
data: {{source: image-folder, path: {root}/images, resolution: 32}}
stages:
  - {{id: first, kind: train, student: test_resnet, epochs: 1, batch: 16, lr: 0.05}}
  - {{id: files, kind: export, from: [first], runtimes: auto, auto_loss: 1.0}}
measure: {{batches: [1, 2], rounds: 5, energy: off}}
worth: {{references: [first]}}
"""


def around(middle: float, spread: float = 0.01, seed: int = 0) -> list[float]:
    return [float(value) for value in np.random.default_rng(seed).normal(middle, spread * middle, 30)]


def validation(**losses: float) -> dict[str, dict[str, Any]]:
    return {name: {"loss": loss, "agreement": 1 - loss, "n": 200} for name, loss in losses.items()}


def test_of_several_as_fast_the_first_of_the_table_is_taken() -> None:
    times = {"a": around(3.0), "b": around(2.0, 0.1, 1), "c": around(1.99, 0.1, 2), "d": around(2.5)}
    assert fastest(times) == ["b", "c"]
    assert fastest({"c": times["c"], "b": times["b"]}) == ["c", "b"]
    # A wide interval makes no tie of what is far apart.
    assert fastest({"a": [3.0, 3.0, 1.0, 3.0, 1.0], "b": [1.0, 2.0, 2.0, 2.0, 3.0]}) == ["b"]


def test_a_file_that_loses_too_much_is_not_chosen_however_fast() -> None:
    times = {"a": around(3.0), "b": around(1.0), "c": around(2.0)}
    record = choose(times, validation(a=0.0, b=0.02, c=0.005), 0.005)
    assert record["runtime"] == "c" and record["tied"] == []
    assert [row["holds"] for row in record["candidates"]] == [True, False, True]
    ratios = [row["ratio_to_choice"] for row in record["candidates"]]
    assert ratios[0] < 1 < ratios[1] and ratios[2] == 1
    none = choose(times, validation(a=0.1, b=0.1, c=0.1), 0.005)
    assert none["runtime"] is None and none["candidates"][0]["ratio_to_choice"] is None


def test_the_choice_of_each_batch_is_one_line() -> None:
    fixed: dict[str, Any] = {"allowed_loss": 0.005, "candidates": (), "left_out": {}}
    first = RuntimeChoice(batch=1, runtime="a", tied=("b",), **fixed)
    line = choice_line("int8", (first, RuntimeChoice(batch=16, runtime=None, tied=(), **fixed)))
    assert "a (as fast within the interval: b) at batch 1, none at batch 16" in line and "0.5 points" in line
    assert choice_line("int8", ()) == ""


def test_auto_stands_alone_in_a_recipe() -> None:
    stage = "from: [distilled, int8]\n"
    for given in ("auto", "[auto]"):
        assert parse_recipe(GOOD.replace(stage, f"{stage}    runtimes: {given}\n")).stages[-1].auto  # type: ignore[union-attr]
    with pytest.raises(RecipeError, match="'auto' stands for all runtimes"):
        parse_recipe(GOOD.replace(stage, f"{stage}    runtimes: [auto, openvino]\n"))
    with pytest.raises(RecipeError, match="or 'auto', not 'openvin'; did you mean 'openvino'"):
        parse_recipe(GOOD.replace(stage, f"{stage}    runtimes: [openvin]\n"))


def test_every_runtime_is_asked_whether_it_takes_the_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.pipeline.plan.missing", lambda name: [] if name in HERE else ["something"])
    recipe = parse_recipe(GOOD.replace("from: [distilled, int8]\n", "from: [distilled, int8]\n    runtimes: auto\n"))
    stages = {stage.id: stage for stage in recipe.stages}
    export = stages["files"]
    assert isinstance(export, ExportStage)
    assert _runtimes(export, stages["distilled"]) == ["onnxruntime", "openvino", "ncnn"]
    assert _runtimes(export, stages["int8"]) == ["onnxruntime", "openvino"]  # ncnn takes float networks only


def test_a_run_exports_to_every_runtime_that_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> Path:
        raise CompressError("ncnn has no such operator")

    monkeypatch.setattr("compress.pipeline.plan.missing", lambda name: [] if name in HERE else ["something"])
    monkeypatch.setattr(ncnn, "build", fails)
    job = Job(tmp_path)
    for split, count in (("train", 12), ("test", 4)):
        photographs(tmp_path / "images" / split, count, seed=count)
    job.recipe.write_text(RECIPE.format(root=tmp_path))
    done = job.run_here()
    assert done.returncode == 0, done.stderr
    (first,) = job.results()["variants"]
    assert [row["runtime"] for row in first["artifacts"]] == ["onnxruntime", "openvino"]
    assert [choice["batch"] for choice in first["choices"]] == [1, 2]
    for choice in first["choices"]:
        assert choice["left_out"] == {"ncnn": "ncnn has no such operator"} and choice["allowed_loss"] == 1.0
        rows = {row["runtime"]: row for row in choice["candidates"]}
        assert list(rows) == ["onnxruntime", "openvino"] and all(row["holds"] for row in rows.values())
        assert choice["runtime"] in rows and set(choice["tied"]) < set(rows)
        assert rows[choice["runtime"]]["ratio_to_choice"] == 1
        assert all(row["validation_agreement"] == 1 for row in rows.values())
    page = next((job.runs / "tiny").glob("*/report.md")).read_text()
    assert "Fastest file of first among those that lose at most 100 points" in page
    again = job.run_here()
    assert again.returncode == 0 and "latency: taken from the store" in again.stderr + again.stdout
    for here, says in (
        (("ncnn",), "stage files/first: no runtime that is here takes it: ncnn has no such operator"),
        ((), "stage files/first: none of the runtimes that take first is here: `compress-model doctor` says more"),
    ):
        monkeypatch.setattr("compress.pipeline.plan.missing", lambda name, here=here: [] if name in here else ["some"])
        failed = job.run_here()
        assert failed.returncode == 1 and says in failed.stderr, failed.stderr


def test_a_quantized_file_that_runs_in_float_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.deployment.onnx_runtime.coverage", lambda path: Coverage(0, 5, 0, 100))
    with pytest.raises(CompressError, match="onnxruntime runs none of the 5 convolutions of int8 in integer"):
        _check("onnxruntime", Path("model.onnx"), None, None, np.zeros(0), True, "int8")  # type: ignore[arg-type]
