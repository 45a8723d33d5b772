"""Networks and files on further images: what cannot be evaluated is a failure of its own and never the end of a run."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compress.benchmark import further_images
from compress.data.ood import OodImages
from compress.data.prepared import ImageData, Split
from compress.data.preprocess import Preprocess
from compress.pipeline.failures import Failures
from compress.pipeline.job import Job
from compress.pipeline.measure import measure_corruptions, measure_ood
from compress.pipeline.ood import read_ood
from compress.pipeline.plan import make_plan
from compress.pipeline.robustness import corruption_units, read_robustness
from compress.pipeline.run_folder import Log
from compress.recipe.load import parse_recipe
from compress.results import Artifact
from compress.results.stored import ARTIFACTS, ROWS, predictions_file
from compress.stages.context import StageContext
from compress.stages.planned import PlannedStage
from compress.store.store import Store
from compress.utils.errors import CompressError

RECIPE = """
name: further
data: cifar10-sample
stages:
  - {id: teacher, kind: teacher, teacher: embedded}
  - {id: small, kind: distill, from: teacher, student: resnet18}
  - {id: files, kind: export, from: [small], runtimes: [onnxruntime], precision: [fp32, fp16]}
measure: {corruptions: [brightness]}
"""
WHITE = np.full((1, 3, 32, 32), 255, np.uint8)
GREY = np.full((4, 3, 32, 32), 99, np.uint8)
OOD = OodImages(np.concatenate([GREY, WHITE]), "key", ())


class Overflows(nn.Module):
    """A network whose logits are not finite on an image that is white all over."""

    def forward(self, pixels: Tensor) -> Tensor:
        mean = pixels.mean((1, 2, 3))
        return torch.stack([mean, torch.where(mean < 250, 2 * mean, torch.inf)], dim=1)


def context(test: np.ndarray) -> Any:
    return SimpleNamespace(
        data=SimpleNamespace(test=Split(test, np.zeros(len(test), np.int64))),
        recipe=parse_recipe(RECIPE),
        classifier=lambda name: (Overflows(), SimpleNamespace(on_stored=lambda: lambda pixels: pixels.float())),
        device_for=lambda model: torch.device("cpu"),
        batch_size=lambda device: 2,
    )


def test_logits_that_are_not_finite_are_refused_on_all_further_images(tmp_path: Path) -> None:
    """The largest of them says nothing: that of NaN is the first class."""
    network: Any = SimpleNamespace(id="small", makes_variant=True)
    further_images.predict_corrupted(context(GREY), network, "pytorch", tmp_path)
    assert (np.load(tmp_path / "pytorch.npy") == 1).all()
    with pytest.raises(CompressError, match=r"^non-finite logits on 1 of 5 images of measure\.ood$"):
        further_images.score_ood(context(GREY), network, "pytorch", OOD, tmp_path)
    bright = np.concatenate([GREY, np.full_like(WHITE, 240)])
    with pytest.raises(CompressError, match=r"^non-finite logits on 1 of 5 test images under brightness, severity \d$"):
        further_images.predict_corrupted(context(bright), network, "pytorch", tmp_path)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job whose export has a file in FP32 and one in FP16."""
    store = Store(tmp_path / "store")
    store.root.mkdir()
    plan = make_plan(parse_recipe(RECIPE), store)
    rows = tuple(
        Artifact(runtime="onnxruntime", format="onnx", precision=precision, path=f"artifacts/{name}/a.onnx", bytes=1)
        for precision, name in (("fp32", "onnx"), ("fp16", "onnx-fp16"))
    )
    store.get(plan.exports[0].key, "files", lambda folder: write(folder / ROWS, ARTIFACTS.dump_json(rows)))
    split = Split(GREY, np.zeros(len(GREY), np.int64))
    data = ImageData("data", ("a", "b"), 32, split, split, split, split, "key", 0)
    return Job(plan, store, data, Log(tmp_path / "log.jsonl"), ood=OOD)


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def test_the_network_of_a_variant_is_loaded_once_for_all_of_its_files(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[Path] = []

    def load(folder: Path) -> Any:
        loads.append(folder)
        return SimpleNamespace(classifier=Overflows(), preprocess=Preprocess(32, (0, 0, 0), (1, 1, 1)))

    monkeypatch.setattr("compress.stages.context.load_variant", load)
    monkeypatch.setattr(
        further_images, "load_classifier", lambda runtime, path: lambda images: np.eye(2)[[1] * len(images)]
    )
    whole, (files,) = job.context(), job.plan.exports
    for planned, name in (
        (job.plan.stage("small"), "pytorch"),
        (files, "onnxruntime"),
        (files, "onnxruntime fp16"),
    ):
        further_images.predict_corrupted(whole, planned, name, tmp_path)
        assert (np.load(predictions_file(tmp_path, name)) == 1).all()
    assert loads == [whole.folder("small")]


def fails_in(names: set[str], rows: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace both evaluations by one that fails on these networks and files; the list collects its calls."""
    calls: list[str] = []

    def evaluate(_: StageContext, planned: PlannedStage, name: str, *rest: Any) -> None:
        calls.append(name)
        if name in names:
            raise CompressError("non-finite logits")
        folder, images = rest[-1], len(GREY) + (len(OOD.images) if len(rest) > 1 else 0)
        np.save(folder / f"{name}.npy", np.zeros((rows, images)))

    monkeypatch.setattr(Job, "context", lambda self: None)
    monkeypatch.setattr(further_images, "predict_corrupted", evaluate)
    monkeypatch.setattr(further_images, "score_ood", evaluate)
    return calls


def test_a_file_that_cannot_be_evaluated_is_a_failure_and_is_tried_again(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures, again = Failures(), Failures()
    calls = fails_in({"onnxruntime fp16"}, 2, monkeypatch)
    measure_ood(job, failures)
    measure_corruptions(job, failures)
    assert calls == 2 * ["pytorch", "pytorch", "onnxruntime", "onnxruntime fp16"]
    assert [(row.stage, row.runtime, row.reason) for row in failures.rows] == [
        ("files/small", "onnxruntime fp16", f"{what}: non-finite logits") for what in ("OOD images", "corruptions")
    ]
    assert not failures.stages and ("files/small", failures.reasons[0][1]) == failures.reasons[0]
    events = [json.loads(line) for line in job.log.path.read_text().splitlines()]
    assert [each["unit"] for each in events if each["event"] == "not measured"] == [
        "OOD images of files/small in onnxruntime fp16",
        "corruptions of files/small in onnxruntime fp16",
    ]
    stored = [job.store.has(unit.key) for unit in corruption_units(job.plan, job.store)]
    assert stored == [True, True, True, False]
    calls = fails_in(set(), 2, monkeypatch)
    measure_ood(job, again)
    assert calls == ["onnxruntime fp16"] and not again


def test_a_run_on_which_nothing_could_be_evaluated_has_no_such_part(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = Failures()
    fails_in({"pytorch", "onnxruntime", "onnxruntime fp16"}, 2, monkeypatch)
    measure_ood(job, failures)
    measure_corruptions(job, failures)
    assert len(failures.rows) == 8
    assert read_ood(job.plan, job.store, job.data, OOD, ()) is None
    assert read_robustness(job.plan, job.store, job.data, ()) is None
