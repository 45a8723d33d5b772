"""Out-of-distribution images: what tells them worse is named, and a run scores them without making anything again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from results_factory import example_record
from results_factory import variant as make_variant
from support import Job, follows_the_schema

from compress.data.left_out import LeftOut
from compress.data.ood import prepare_ood
from compress.data.prepared import ImageData, Split
from compress.data.sample import SampleData
from compress.deployment.open_vino import OpenVino
from compress.efficiency.ood import SCORES, placements
from compress.pipeline.job import prepare_ood_images
from compress.pipeline.ood import detection
from compress.pipeline.run_folder import Log
from compress.recipe import parse_recipe
from compress.report import render_markdown
from compress.report.ood import ood_tables
from compress.report.remarks import reservations
from compress.report.shown_worse import shown_worse
from compress.report.tooltips import tooltip
from compress.results import RunRecord
from compress.store.store import Store
from compress.utils.errors import CompressError, UsageError

SETTINGS = SampleData(source="cifar10-sample")
RNG = np.random.default_rng(0)
LEFT_OUT = (LeftOut("file", ".heic", 2, "a.heic"), LeftOut("folder", "@eaDir", 1, "@eaDir"))
KNOWN, OOD = RNG.normal(2, 1, 300), RNG.normal(0, 1, 200)


def record() -> RunRecord:
    """A reference, a variant with the same scores, and one whose energy tells nothing."""
    energy = {"base": (KNOWN, OOD), "same": (2 * KNOWN, 2 * OOD), "blind": (RNG.normal(0, 1, 300), OOD)}
    found = {
        (name, "pytorch", None): {"softmax": placements(KNOWN, OOD), "energy": placements(*scores)}
        for name, scores in energy.items()
    }
    variants = tuple(map(make_variant, energy))
    headline = example_record().headline.model_copy(update={"reference": "base"})
    ood = detection(["base"], variants, found, left_out=LEFT_OUT)
    update = {"variants": variants, "quality_changes": (), "headline": headline, "efficiency": (), "ood": ood}
    return example_record().model_copy(update=update)


def test_a_variant_that_tells_them_worse_is_named_and_nothing_else() -> None:
    run = record()
    (line,) = shown_worse(run)
    assert line.startswith("Out-of-distribution detection is shown to be worse than that of base in blind: AUROC by ")
    assert "energy" in line
    assert "softmax" not in line and line in reservations(run)
    (table,) = ood_tables(run)
    rows = {row[0]: dict(zip(table.headings, row, strict=True)) for row in table.rows}
    assert rows["same"]["shown to be worse by"] == "none shown" and rows["blind"]["shown to be worse by"] == "energy"
    assert rows["base"]["lost by softmax (95%)"] == "reference" and rows["base"]["files"]
    assert table.note.endswith("Left out of the folder: 2 files (.heic 2), 1 folder (@eaDir 1).")
    figures = [heading for heading, figure in zip(table.headings, table.figures, strict=True) if figure]
    assert figures and all(tooltip(table.key, heading) for heading in figures)
    assert run.ood and [(each.images, each.test_images) for each in [run.ood]] == [(200, 300)]
    assert run.ood.left_out == 3 and [row.reason for row in run.ood.left_out_by_reason] == [".heic", "@eaDir"]
    assert "ood" not in example_record().model_dump(mode="json")
    assert "Out-of-distribution" not in render_markdown(example_record())


def test_results_that_have_only_the_number_of_files_left_out_are_read_and_shown() -> None:
    old = record().model_dump(mode="json")
    del old["ood"]["left_out_by_reason"]
    (table,) = ood_tables(RunRecord.model_validate(old))
    assert table.note.endswith(" 3 files of the folder were left out.")


def test_what_is_left_out_is_logged(tmp_path: Path) -> None:
    data = data_of(np.full((2, 3, 32, 32), 9, np.uint8))
    folder = tmp_path / "others"
    (folder / "deep").mkdir(parents=True)
    Image.new("L", (40, 20), 7).save(folder / "grey.png")
    for name in ("deep/broken.png", "notes.txt"):
        (folder / name).write_text("x")
    recipe = parse_recipe(
        f"data: {{source: cifar10-sample}}\nmeasure: {{ood: {folder}}}\n"
        "stages: [{id: s, kind: train, student: resnet18}]"
    )
    for _ in range(2):  # newly decoded, and from the store
        found = prepare_ood_images(recipe, data, Store(tmp_path / "store"), Log(tmp_path / "log.jsonl"))
        event = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
        assert event["event"] == "ood" and found and event["images"] == len(found.images) == 1
        assert event["left_out"] == [
            {"kind": "file", "reason": ".txt", "count": 1, "first": "notes.txt"},
            {"kind": "image", "reason": "OOD image that cannot be decoded", "count": 1, "first": "deep/broken.png"},
        ]


def data_of(images: np.ndarray) -> ImageData:
    """Prepared data, all of whose splits are these images."""
    split = Split(images, np.zeros(len(images), np.int64))
    return ImageData("data", ("a", "b"), images.shape[-1], split, split, split, split, "key", 0)


def test_folders_without_images_are_refused_and_other_files_are_counted(tmp_path: Path) -> None:
    store, data = Store(tmp_path / "store"), data_of(np.full((2, 3, 32, 32), 9, np.uint8))
    with pytest.raises(UsageError, match=r"measure\.ood: no folder at .*/nowhere"):
        prepare_ood(str(tmp_path / "nowhere"), SETTINGS, data, store)
    folder = tmp_path / "others" / "deep"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("x")
    with pytest.raises(UsageError, match=r"measure\.ood: no image in .*/others"):
        prepare_ood(str(tmp_path / "others"), SETTINGS, data, store)
    (folder / "broken.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"measure\.ood: no readable image in .*/others"):
        prepare_ood(str(tmp_path / "others"), SETTINGS, data, store)
    Image.new("L", (40, 20), 7).save(folder / "grey.png")
    found = prepare_ood(str(tmp_path / "others"), SETTINGS, data, store)
    assert found.images.shape == (1, 3, 32, 32) and (np.asarray(found.images) == 7).all()
    assert sorted(row.count for row in found.left_out) == [1, 1]
    (folder / "broken.png").unlink()
    assert prepare_ood(str(tmp_path / "others"), SETTINGS, data, store).key != found.key


def test_images_of_the_data_are_refused(tmp_path: Path) -> None:
    data = data_of(np.full((2, 3, 32, 32), 7, np.uint8))
    Image.new("L", (40, 20), 7).save(tmp_path / "grey.png")
    for _ in range(2):  # newly found, and from the store
        with pytest.raises(UsageError, match=r"measure\.ood: images in .* are in train and .*test too"):
            prepare_ood(str(tmp_path), SETTINGS, data, Store(tmp_path / "store"))


def test_a_run_scores_networks_and_files_and_makes_nothing_again(
    done_job: Callable[[], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = done_job()
    folder = job.root / "noise"
    folder.mkdir()
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("x")
    wanted = ("--no-dry-run", "--set", f"measure.ood={folder}")
    fails_in_openvino(job, wanted, monkeypatch)
    done = job.run_here(*wanted)
    assert done.returncode == 0, done.stderr
    results = job.results()
    follows_the_schema(results)
    assert [row["reason"] for row in results["ood"]["left_out_by_reason"]] == [".txt"]
    assert results["run"]["made"] == [] and "latency: taken from the store" in done.stderr
    assert (results["ood"]["images"], results["ood"]["test_images"]) == (40, 120)
    found = {(each["variant"], each["runtime"]) for each in results["ood"]["files"]}
    assert {("int8", "onnxruntime"), ("int8", "openvino"), ("distilled", "pytorch")} <= found
    assert ("int8", "pytorch") not in found, "a quantized network in PyTorch only simulates its files"
    for each in results["ood"]["files"]:
        for score in SCORES:
            assert each[score]["ci95"][0] <= each[score]["auroc"] <= each[score]["ci95"][1]
    again = job.run_here(*wanted)
    assert "OOD images: taken from the store" in again.stderr and job.results()["ood"] == results["ood"]


def fails_in_openvino(job: Job, wanted: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run while files for OpenVINO cannot be evaluated: the report is of the others, with the reason."""

    def fails(*_: object, **__: object) -> None:
        raise CompressError("out of range")

    with monkeypatch.context() as patch:
        patch.setattr(OpenVino, "load", fails)
        done = job.run_here(*wanted)
    assert done.returncode == 1 and "openvino: OOD images: out of range" in done.stderr
    results = job.results()
    follows_the_schema(results)
    assert results["failed"] == [
        {"stage": f"files/{name}", "runtime": "openvino", "reason": "OOD images: out of range"}
        for name in ("distilled", "int8")
    ]
    assert {each["runtime"] for each in results["ood"]["files"]} == {"pytorch", "onnxruntime"}
    run = max((job.runs / "tiny").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert "files/int8 failed in openvino: OOD images: out of range" in (run / "report.md").read_text()
