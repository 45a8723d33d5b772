"""Manifests of shards, local and at a URL, and plans that open none."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from data.packing import assert_same, packer, rows_of, write_tars
from safetensors.torch import save_file

from compress.data import planned_manifest, remote_shards
from compress.data.manifest import read_manifest
from compress.data.prepared import prepare
from compress.data.sources import data_key
from compress.data.webdataset import WebData
from compress.data.write_manifest import write_manifest
from compress.models.factory import create_model
from compress.pipeline.cost_model import PlanRow, estimate, plan_summary
from compress.recipe.load import parse_recipe
from compress.store.remote import ORIGIN
from compress.store.shared import SharedFolder
from compress.store.store import Store
from compress.utils.errors import CompressError, UsageError

pytestmark = pytest.mark.usefixtures("shard_cache")


def at(settings: Any, path: object) -> Any:
    """Return settings as a recipe has them, with another path."""
    return type(settings).model_validate(settings.model_dump() | {"path": str(path)})


def put(folder: Path, bucket: SharedFolder) -> None:
    for file in sorted(folder.iterdir()):
        bucket.upload(file, file.name)


@pytest.mark.parametrize("source", ["webdataset", "parquet"])
def test_a_manifest_gives_the_data_and_key_of_its_folder(
    source: str, photos: Path, bucket: SharedFolder, tmp_path: Path
) -> None:
    settings = packer(source)(rows_of(photos), tmp_path / "packed")
    put(tmp_path / "packed", bucket)
    records = write_manifest(settings.path, f"{settings.path}/manifest.jsonl")
    assert [record.images for record in records] == [3, 3, 10, 10, 2, 2]
    assert [record.split for record in records] == ["test", "test", "train", "train", "unlabeled", "unlabeled"]
    assert all(record.sha256 and record.bytes for record in records)
    there = write_manifest(bucket.url, f"{bucket.url}/manifest.jsonl")
    assert [(each.file, each.images, each.bytes) for each in there] == [(r.file, r.images, r.bytes) for r in records]
    assert all(record.etag for record in there)
    whole = prepare(settings, Store(tmp_path / "0"), 0)
    for place in (settings.path, bucket.url):
        listed = prepare(at(settings, f"{place}/manifest.jsonl"), Store(tmp_path / place[-6:]), 0)
        assert listed.key == whole.key
        assert_same(listed, whole)
    above = write_manifest(f"{settings.path}/*train*", str(tmp_path / "above.jsonl"))
    assert [record.file for record in above] == [f"packed/{record.file}" for record in records[2:4]]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_compressed_tars_are_counted_too(mode: str, photos: Path, tmp_path: Path) -> None:
    settings = write_tars(rows_of(photos), tmp_path / "tars", mode)
    assert sum(each.images for each in write_manifest(settings.path, f"{settings.path}/m.jsonl")) == 30


def test_manifests_that_cannot_be_written_are_refused(photos: Path, bucket: SharedFolder, tmp_path: Path) -> None:
    folder = Path(write_tars(rows_of(photos), tmp_path / "tars").path)
    for output, says in (
        ("manifest.json", r"must end with \.jsonl"),
        (tmp_path / "other" / "m.jsonl", r"must be in a folder above its shards; write it to .*tars/"),
        ("s3://id:planted@bucket/m.jsonl", "credentials do not belong in a URL"),
    ):
        with pytest.raises(UsageError, match=says):
            write_manifest(str(folder), str(output))
    (folder / "train-1.parquet").write_bytes(b"")
    with pytest.raises(UsageError, match=r"has tars and Parquet files; name one kind by a pattern"):
        write_manifest(str(folder), f"{folder}/m.jsonl")
    (folder / "train-000.tar").write_bytes(b"not a tar")
    with pytest.raises(CompressError, match=r"train-000\.tar cannot be read"):
        write_manifest(f"{folder}/*.tar", f"{folder}/m.jsonl")


def test_a_shard_that_differs_from_its_manifest_is_refused(photos: Path, bucket: SharedFolder, tmp_path: Path) -> None:
    settings = write_tars(rows_of(photos), tmp_path / "tars")
    put(tmp_path / "tars", bucket)
    write_manifest(settings.path, f"{settings.path}/manifest.jsonl")
    write_manifest(bucket.url, f"{bucket.url}/manifest.jsonl")
    bucket.write("train-000.tar", bucket.read("train-000.tar") or b"")  # the same bytes, another ETag
    with pytest.raises(CompressError, match=r"birds/train-000\.tar has changed since it was listed: its size, ETag or"):
        data_key(at(settings, f"{bucket.url}/manifest.jsonl"), 0)
    records = [json.loads(line) | {"etag": None} for line in (tmp_path / "tars" / "manifest.jsonl").open()]
    records[2]["sha256"] = "0" * 64
    bucket.write("manifest.jsonl", "\n".join(map(json.dumps, records)).encode())
    with pytest.raises(CompressError, match=r"birds/train-000\.tar has changed since it was listed"):
        data_key(at(settings, f"{bucket.url}/manifest.jsonl"), 0)

    listed, file = at(settings, f"{settings.path}/manifest.jsonl"), tmp_path / "tars" / "train-000.tar"
    content = bytearray(file.read_bytes())
    content[-1] = 1  # within the padding
    file.write_bytes(content)
    with pytest.raises(
        CompressError, match=r"train-000\.tar has changed since its manifest was written; write the man"
    ):
        data_key(listed, 0)
    file.write_bytes(content + bytes(512))
    with pytest.raises(CompressError, match=r"train-000\.tar has changed since its manifest was written"):
        data_key(listed, 0)
    file.unlink()
    with pytest.raises(UsageError, match=r"train-000\.tar of the manifest not found; write the manifest again"):
        data_key(listed, 0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"m\.jsonl lists no shards; write it with `compress-model manifest`"),
        ("{}", r"m\.jsonl:1: file: Field required; fix the line, or write it with"),
        ('\n{"file": "a.tar", "images": -1, "bytes": 1}', r"m\.jsonl:2: images: Input should be greater than or equal"),
        (
            '{"file": "../a.tar", "images": 1, "bytes": 1}',
            r"m\.jsonl:1: file: .*must be a path below the folder of the",
        ),
        ('{"file": "s3://b/a.tar", "images": 1, "bytes": 1}', r"must be a path below the folder of the manifest"),
        ('{"file": "a.tar", "images": 1, "bytes": 1, "n": 1}', r"m\.jsonl:1: n: Extra inputs are not permitted"),
        ("not json", r"m\.jsonl:1: Invalid JSON"),
        (2 * '{"file": "a.tar", "images": 1, "bytes": 1}\n', r"m\.jsonl: a\.tar is listed twice; remove a line"),
        (
            '{"file": "train.tar", "images": 1, "bytes": 1}\n{"file": "b.tar", "images": 1, "bytes": 1}',
            r"no split in the name of b\.tar, though others have one",
        ),
    ],
)
def test_mistakes_in_a_manifest_name_the_line(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(text)
    with pytest.raises(UsageError, match=says):
        read_manifest(str(tmp_path / "m.jsonl"))


def test_a_manifest_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").mkdir()
    with pytest.raises(CompressError, match=r"m\.jsonl cannot be read: Is a directory"):
        read_manifest(str(tmp_path / "m.jsonl"))
    with pytest.raises(UsageError, match=r"absent\.jsonl not found; write it with `compress-model manifest`"):
        read_manifest(str(tmp_path / "absent.jsonl"))


def test_a_split_in_the_manifest_overrides_the_name(tmp_path: Path) -> None:
    lines = [
        {"file": "train-0.tar", "images": 1, "bytes": 1},
        {"file": "b.tar", "images": 1, "bytes": 1, "split": "test"},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert [split for _, split in read_manifest(str(tmp_path / "m.jsonl"))] == ["train", "test"]


SHARDS, IMAGES, BYTES = 15_259, 65_536, 7_000_000_000
RECIPE = """
name: billion
data: {source: webdataset, path: %s, resolution: 32, images: files, classes: [a, b, c]}
stages:
  - {id: teacher, kind: teacher, teacher: {source: timm, model: test_resnet, checkpoint: %s}}
  - {id: student, kind: distill, from: teacher, student: test_resnet, epochs: 4, views: 2}
  - {id: pruned, kind: prune, from: student, target_macs: 0.5, repair: {epochs: 1, views: 2}}
measure: {energy: off}
worth: {references: [teacher]}
"""


def billion(folder: Path) -> str:
    """Write the manifest of a billion images, whose shards are nowhere, and return its path."""
    lines = []
    for number in range(SHARDS):
        split = {0: "test", 1: "validation"}.get(number, "train")
        lines.append(f'{{"file": "{split}-{number:05}.tar", "images": {IMAGES}, "bytes": {BYTES}}}\n')
    (folder / "manifest.jsonl").write_text("".join(lines))
    return str(folder / "manifest.jsonl")


def test_a_billion_images_are_planned_without_a_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, said = billion(tmp_path), list[str]()
    save_file(create_model("timm", "test_resnet", 3, 32).state_dict(), tmp_path / "it.safetensors")
    monkeypatch.setattr(planned_manifest, "say", said.append)
    for module in ("webdataset", "arrow"):
        monkeypatch.setattr(f"compress.data.{module}.find_shards", lambda *_: pytest.fail("shards are looked for"))
    rows = {
        row.unit: row for row in estimate(parse_recipe(RECIPE % (path, tmp_path / "it.safetensors")), tmp_path / "runs")
    }
    assert said == ["data: 1,000,013,824 images in 15,259 shards, 106.81 TB; no shard was opened"]
    assert rows["student"].embedding_shards == 2 * (SHARDS - 2)
    assert rows["student"].embedding_bytes == 2 * (SHARDS - 2) * IMAGES * 3 * 2, "two views of three logits in fp16"
    assert rows["pruned"].embedding_shards == 0, "those of the student are there by then"
    assert rows["student"].seconds > rows["pruned"].seconds > rows["teacher"].seconds > 0
    lines = plan_summary(list(rows.values()), 2.5)
    hours = sum(row.seconds for row in rows.values()) / 3600
    assert lines == [
        "units: 30,518: 4 stages and measurements, 30,514 shards of teacher embeddings",
        "teacher embeddings: 12.00 GB in fp16",
        f"time: {hours:,.2f} h on this machine",
        f"price: {2.5 * hours:,.2f}, at 2.5 per hour of this machine",
    ]


def test_memory_of_planned_data_does_not_depend_on_the_number_of_images(tmp_path: Path) -> None:
    lines = [{"file": f"{name}.tar", "images": 10**9, "bytes": 1} for name in ("train", "validation", "test")]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    settings = parse_recipe(RECIPE % (tmp_path / "m.jsonl", "it")).data
    tracemalloc.start()
    data = planned_manifest.planned_manifest(settings, tmp_path, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(data.train) == len(data.test) == len(data.validation) == 10**9
    assert peak < 10e6


def test_a_plan_has_the_keys_of_a_run_once_the_shards_have_been_read_anywhere(
    photos: Path, bucket: SharedFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = write_tars(rows_of(photos), tmp_path / "tars")
    write_manifest(settings.path, f"{settings.path}/manifest.jsonl")
    put(tmp_path / "tars", bucket)
    for machine in ("one", "two"):
        (tmp_path / machine).mkdir()
        (tmp_path / machine / ORIGIN).write_text("memory://bucket/runs/store")
    remote = at(settings, f"{bucket.url}/manifest.jsonl").model_copy(update={"classes": ["cat", "dog"]})
    before = planned_manifest.planned_manifest(remote, tmp_path / "two", 0)
    data = prepare(remote, Store(tmp_path / "one"), 0)
    monkeypatch.setattr(remote_shards, "download", lambda remote: pytest.fail("plans download nothing"))
    after = planned_manifest.planned_manifest(remote, tmp_path / "two", 0)
    assert before.key != after.key == data.key
    for split in ("train", "unlabeled", "validation", "test"):
        assert len(getattr(before, split)) == len(getattr(after, split)) == len(getattr(data, split)), split
    assert data_key(remote, 0, tmp_path / "two" / "fingerprints.json") == data.key


@pytest.mark.parametrize(
    ("change", "splits", "says"),
    [
        (
            "data.classes=null",
            "train test",
            r"data\.classes: .* does not say the names of the classes, .*; list them",
        ),
        ("data.source=webdataset", "train", r"lists no test images; `test: 0\.2` in data cuts a fifth off for them"),
        ("data.source=webdataset", "unlabeled test", r"lists no train images; add their shards, or correct `split`"),
    ],
)
def test_what_a_manifest_cannot_tell_is_refused(change: str, splits: str, says: str, tmp_path: Path) -> None:
    lines = [{"file": f"{name}.tar", "images": 9, "bytes": 1} for name in splits.split()]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(UsageError, match=says):
        planned_manifest.planned_manifest(
            parse_recipe(RECIPE % (tmp_path / "m.jsonl", "it"), [change]).data, tmp_path, 0
        )


def test_a_summary_without_embeddings_and_price_is_short() -> None:
    rows = [PlanRow("a", "train", False, "k", 1, 7200.0), PlanRow("b", "train", True, "l", 0, 0.0)]
    assert plan_summary(rows, None) == ["units: 1: 1 stages and measurements", "time: 2.00 h on this machine"]


def test_pixels_of_a_manifest_are_added_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(planned_manifest, "say", said.append)
    lines = [{"file": f"{name}.tar", "images": 1000, "bytes": 1} for name in ("train", "test")]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    settings = WebData(source="webdataset", path=str(tmp_path / "m.jsonl"), classes=["a", "b"], resolution=100)
    data = planned_manifest.planned_manifest(settings, tmp_path, 0)
    assert said[1:] == ["  decoded once into the store they take 0.06 GB; `images: files` decodes batches instead"]
    assert len(data.train) == 900 and len(data.validation) == 100
