"""Whatever a reader leaves out is counted by reason, and shown by `init`, `log.jsonl` and the report."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from data.packing import SETTINGS, add, rows_of, write_csv, write_parquet, write_saved, write_tars
from results_factory import example_record

from compress.data import webdataset
from compress.data.csv_file import CsvData
from compress.data.folder import FolderData
from compress.data.left_out import MAX_REASONS, OTHER, LeftOut, Tally, file_kind, left_out_line
from compress.data.listing import list_images
from compress.data.prepared import prepare
from compress.data.sources import data_key
from compress.data.webdataset import WebData
from compress.pipeline import job
from compress.pipeline.predictions import data_summary
from compress.pipeline.run_folder import Log
from compress.recipe import parse_recipe
from compress.recipe.data import FileData
from compress.report.content import build_report
from compress.scaffold.detect import detect_source
from compress.scaffold.summary import survey_lines, survey_record
from compress.scaffold.survey import survey_images
from compress.store.store import Store
from compress.utils.json_cache import load_cache, save_cache

FOREIGN = (
    *("train/cat/@eaDir/00.png/SYNOPHOTO_THUMB_XL.jpg", "train/dog/@eaDir/x.jpg", "__MACOSX/train/cat/._00.png"),
    *("train/cat/.ipynb_checkpoints/00-checkpoint.png", "#recycle/old.png"),
    *("train/cat/Thumbs.db", "test/dog/Thumbs.db", "train/cat/.DS_Store", "train/dog/._00.png", "desktop.ini"),
    *("train/cat/a.heic", "train/cat/b.HEIC", "train/dog/a.jpe", "train/dog/a.jp2", "test/cat/photo"),
    *("test/cat/a.jpg?w=300", "README.md"),
)
KINDS = {
    ("file", ".heic"): 2,
    ("file", ".db"): 2,
    ("file", "hidden"): 2,
    ("file", ".ini"): 1,
    ("file", ".jpe"): 1,
    ("file", ".jp2"): 1,
    ("file", "no ending"): 1,
    ("file", ".jpg?"): 1,
    ("file", ".md"): 1,
    ("folder", "@eaDir"): 2,
    ("folder", "__MACOSX"): 1,
    ("folder", ".ipynb_checkpoints"): 1,
    ("folder", "#recycle"): 1,
}


def by_reason(rows: Any) -> dict[tuple[str, str], int]:
    return {(row.kind, row.reason): row.count for row in rows}


def litter(root: Path) -> None:
    for name in FOREIGN:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


@pytest.fixture
def foreign(photos: Path) -> Path:
    """Photos with foreign files of 13 kinds beside and below the class folders."""
    litter(photos)
    return photos


def test_foreign_files_change_neither_classes_nor_the_key(photos: Path) -> None:
    settings = FolderData(source="image-folder", path=str(photos), **SETTINGS)
    key = data_key(settings, 0)
    litter(photos)
    assert data_key(settings, 0) == key and list_images(settings).classes == ("cat", "dog")


def test_init_counts_foreign_files_by_kind(foreign: Path) -> None:
    settings = detect_source(str(foreign))
    survey = survey_images(settings)
    assert by_reason(survey.left_out) == KINDS
    lines = "\n".join(survey_lines(settings, survey))
    assert "left out: 12 files (.db 2, .heic 2, hidden 2, .ini 1, .jp2 1, .jpe 1, .jpg? 1, .md 1, no ending 1)" in lines
    assert "5 folders (@eaDir 2, #recycle 1, .ipynb_checkpoints 1, __MACOSX 1)" in lines
    record: Any = survey_record(settings, survey)
    assert {"kind": "file", "reason": ".heic", "count": 2, "first": "train/cat/a.heic"} in record["left_out"]


def test_a_flat_tree_is_counted_alike(foreign: Path) -> None:
    (foreign / "train").rename(foreign / "flat")
    survey = survey_images(detect_source(str(foreign / "flat")))
    assert survey.classes == ("cat", "dog")
    assert by_reason(survey.left_out) == {
        **{("file", reason): KINDS["file", reason] for reason in ("hidden", ".heic", ".jpe", ".jp2")},
        **{("folder", name): KINDS["folder", name] for name in ("@eaDir", ".ipynb_checkpoints")},
        ("file", ".db"): 1,
    }


def test_a_run_logs_and_reports_them(foreign: Path, store: Store, tmp_path: Path) -> None:
    (foreign / "train" / "cat" / "03.png").write_bytes(b"nothing")
    recipe = parse_recipe(
        f"data: {{source: image-folder, path: {foreign}, resolution: 16, broken: skip}}\n"
        "stages: [{id: s, kind: train, student: resnet18, batch: 8}]"
    )
    data, _ = job.prepare_data(recipe, store, Log(tmp_path / "log.jsonl"), [stage.id for stage in recipe.stages])
    expected = {**KINDS, ("image", "not readable"): 1, ("image per epoch", "s: fill no batch"): 17 % 8}
    assert by_reason(data.left_out) == expected and len(data.train) == 17
    event = json.loads((tmp_path / "log.jsonl").read_text())
    assert {(row["kind"], row["reason"]): row["count"] for row in event["left_out"]} == expected
    predictions: Any = SimpleNamespace(data=data, chance=0.5, labels=np.zeros(0, int))
    summary = data_summary(predictions, ["a remark"])
    assert by_reason(summary.left_out) == expected and summary.skipped == 1
    report = dict(build_report(example_record().model_copy(update={"data": summary})).data)
    assert report["left out"] == left_out_line(data.left_out)
    assert "1 image (not readable 1)" in report["left out"] and ".heic 2" in report["left out"]
    assert "1 image per epoch (s: fill no batch 1)" in report["left out"]


@pytest.mark.parametrize(("gpus", "rest"), [(0, 18 % 8), (3, 18 % 6)])
def test_tail_batches_are_those_of_the_devices_here(
    foreign: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, rest: int
) -> None:
    monkeypatch.setattr("compress.measurement.device._count", lambda kind: gpus if kind == "cuda" else 0)
    recipe = parse_recipe(
        f"data: {{source: image-folder, path: {foreign}, resolution: 16}}\ntrainer: {{devices: auto}}\n"
        "stages: [{id: s, kind: train, student: resnet18, batch: 8}]"
    )
    data, _ = job.prepare_data(recipe, store, Log(tmp_path / "log.jsonl"), [stage.id for stage in recipe.stages])
    left = by_reason(data.left_out)
    assert len(data.train) == 18 and left.get(("image per epoch", "s: fill no batch"), 0) == rest


def test_what_is_left_out_is_of_the_source_and_not_of_the_store(foreign: Path, store: Store) -> None:
    settings = FolderData(source="image-folder", path=str(foreign), **SETTINGS)
    key = prepare(settings, store, 0).key
    (foreign / "train" / "cat" / "a.heic").unlink()
    data = prepare(settings, store, 0)
    assert data.key == key and by_reason(data.left_out)["file", ".heic"] == 1


def listed(settings: FileData) -> dict[tuple[str, str], int]:
    return by_reason(list_images(settings).left_out)


@pytest.mark.parametrize("write", [write_parquet, write_saved, write_tars])
def test_files_beside_shards_are_counted(photos: Path, tmp_path: Path, write: Any) -> None:
    pytest.importorskip("pyarrow")
    root = tmp_path / "packed"
    settings = write(rows_of(photos), root)
    (root / "extra").mkdir()
    for name in ("README.md", ".hidden", "extra/notes.txt"):
        (root / name).write_text("x")
    (root / "@eaDir").mkdir()
    inside = ("folder", "extra: not a split") if write is write_saved else ("file", ".txt")
    assert listed(settings) == {("file", ".md"): 1, ("file", "hidden"): 1, ("folder", "@eaDir"): 1, inside: 1}


def test_images_that_no_row_names_and_repeated_rows_are_counted(photos: Path, tmp_path: Path) -> None:
    rows = rows_of(photos)
    assert listed(write_csv([*rows[:-1], rows[0]], tmp_path / "t")) == {
        ("image", "in no row of the table"): 1,
        ("row", "repeats an image"): 1,
    }


@pytest.mark.parametrize(
    ("lines", "count"), [([], 0), ([",,"], 1), ([" , ", ""], 1), ([",,", "", ",", ",,"], 3)], ids=str
)
def test_empty_rows_are_counted_and_empty_lines_are_not(
    photos: Path, tmp_path: Path, lines: list[str], count: int
) -> None:
    settings = write_csv(rows_of(photos), tmp_path / "t")
    table = tmp_path / "t" / "labels.csv"
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([head, *rows[:5], *lines, *rows[5:]]) + "\n")
    left_out = list_images(settings).left_out
    assert by_reason(left_out) == ({("row", "empty"): count} if count else {})
    assert not count or left_out[0].first == "labels.csv:7"


@pytest.mark.parametrize("beside", ["images", "."], ids=["images in a folder", "images beside the table"])
def test_what_is_beside_the_images_of_a_table_is_counted(photos: Path, tmp_path: Path, beside: str) -> None:
    root = tmp_path / "t"
    images = root / beside
    shutil.copytree(photos / "train" / "cat", images)
    names = sorted(file.name for file in images.iterdir())
    rows = [f"{beside}/{name},{'cat' if number % 2 else 'dog'}" for number, name in enumerate(names)]
    (root / "labels.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    for name in ("a.heic", ".DS_Store", "other.png", "notes.txt", "@eaDir/x.jpg", ".cache/y"):
        (images / name).parent.mkdir(exist_ok=True)
        (images / name).write_bytes(b"x")
    assert listed(CsvData(source="csv", path=str(root / "labels.csv"), test=0.2)) == {
        ("file", ".heic"): 1,
        ("file", ".txt"): 1,
        ("file", "hidden"): 1,
        ("image", "in no row of the table"): 1,
        ("folder", "@eaDir"): 1,
        ("folder", ".cache"): 1,
    }


def write_members(file: Path, photos: Path, members: dict[str, bytes]) -> WebData:
    with tarfile.open(file, "w") as archive:
        for number, row in enumerate(rows_of(photos)):
            if row.split == "train":
                add(archive, f"{number:03}.png", row.file.read_bytes())
                add(archive, f"{number:03}.cls", b"1" if row.label == "dog" else b"0")
        for name, content in members.items():
            add(archive, name, content)
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "000.png"
        archive.addfile(link, io.BytesIO())
    return WebData(source="webdataset", path=str(file), test=0.2, **SETTINGS)


def test_members_of_a_tar_are_counted_also_from_the_cache(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {"900.cls": b"0", "901.json": b"{}", "902.seg.png": b"x", "903": b"x", "d/.hidden": b"x"}
    settings = write_members(tmp_path / "a.tar", photos, members)
    expected = {
        ("member", "label without an image"): 1,
        ("member", ".json"): 1,
        ("member", ".seg.png"): 1,
        ("member", "no ending"): 1,
        ("member", "hidden"): 1,
        ("member", "link or device"): 1,
    }
    cache = tmp_path / "headers.json"
    webdataset.load_index(settings, cache)
    assert listed(settings) == expected
    monkeypatch.setattr(webdataset, "_SAMPLES", {})
    monkeypatch.setattr(webdataset, "_read_headers", lambda *_: pytest.fail("the headers are read again"))
    webdataset.load_index(settings, cache)
    assert listed(settings) == expected


def test_headers_cached_by_an_older_version_are_read_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, cache = write_members(tmp_path / "a.tar", photos, {"901.json": b"{}"}), tmp_path / "headers.json"
    webdataset.load_index(settings, cache)
    save_cache(cache, "shards", {name: row[:3] for name, row in load_cache(cache, "shards", "").items()})
    monkeypatch.setattr(webdataset, "_SAMPLES", {})
    webdataset.load_index(settings, cache)
    assert listed(settings)["member", ".json"] == 1


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.HEIC", ".heic"),
        (".a.png", "hidden"),
        ("photo", "no ending"),
        ("a.jpg?w=300&h=2", ".jpg?"),
        ("a.b c d e f g h i j k", "no ending"),
        ("a.tar.gz", ".gz"),
    ],
)
def test_files_are_counted_by_ending(name: str, kind: str) -> None:
    assert file_kind(name) == kind


def test_a_million_endings_are_bounded() -> None:
    tally = Tally(Path("r"))
    for number in range(3 * MAX_REASONS):
        tally.add("file", f".{number}", Path("r") / f"a.{number}\n")
    rows = tally.rows()
    assert len(rows) == MAX_REASONS + 1 and rows[0] == LeftOut("file", OTHER, 2 * MAX_REASONS, "a.200\\n")
    line = left_out_line(rows)
    assert line.startswith("600 files (other reasons 400, .0 1") and line.endswith("189 more reasons)")
    assert line.isprintable()


def test_links_and_pipes_are_counted(photos: Path) -> None:
    os.mkfifo(photos / "train" / "cat" / "pipe.png")
    (photos / "train" / "cat" / "back").symlink_to(photos / "train" / "cat")
    settings = FolderData(source="image-folder", path=str(photos), **SETTINGS)
    assert listed(settings) == {("file", "pipe or device"): 1, ("folder", "link to one that is read already"): 1}
