"""The same images, packed as every source of image files takes them."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compress.data.arrow import ArrowData
from compress.data.csv_file import CsvData
from compress.data.folder import FolderData
from compress.data.prepared import ImageData
from compress.data.tree import find_images
from compress.data.webdataset import WebData
from compress.recipe.data import FileData

SETTINGS: dict[str, Any] = {"resolution": 16}
CLASSES = ["cat", "dog"]


@dataclass(frozen=True)
class Row:
    """An image file, its split, and its class where it is labelled."""

    split: str
    label: str | None
    file: Path


def rows_of(photos: Path, *, without_test: bool = False) -> list[Row]:
    """Rows of an image folder, in the order in which the folder source lists them."""
    tree = find_images(photos, without_test=without_test)
    return [
        Row(part, None if labels is None else tree.classes[labels[row]], file)
        for part, (files, labels) in tree.parts.items()
        for row, file in enumerate(files)
    ]


def without(rows: Iterable[Row], *splits: str) -> list[Row]:
    return [row for row in rows if row.split not in splits]


def halves(rows: list[Row]) -> dict[str, tuple[list[Row], list[Row]]]:
    """Rows by split, each split in two shards."""
    groups = {split: [row for row in rows if row.split == split] for split in dict.fromkeys(row.split for row in rows)}
    return {split: (group[: len(group) // 2], group[len(group) // 2 :]) for split, group in groups.items()}


def write_folder(rows: list[Row], to: Path) -> FolderData:
    to.mkdir()
    for number, row in enumerate(rows):
        file = to / row.split / (row.label or "") / f"{number:03}{row.file.suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(row.file, file)
    return FolderData(source="image-folder", path=str(to), **SETTINGS)


def write_csv(rows: list[Row], to: Path, head: str = "path,label,split", mark: str = ",") -> CsvData:
    lines = [mark.join((os.path.relpath(row.file, to), row.label or "", row.split)) for row in rows]
    to.mkdir(exist_ok=True)
    (to / "labels.csv").write_text("\n".join([head.replace(",", mark), *lines]) + "\n")
    return CsvData(source="csv", path=str(to / "labels.csv"), split="split", **SETTINGS)


def table(rows: list[Row], names: list[str]) -> Any:
    """As `datasets` writes it: a struct of bytes and path, whole numbers, the names in the schema's metadata."""
    import pyarrow as pa

    images = [{"bytes": row.file.read_bytes(), "path": row.file.name} for row in rows]
    labels = [-1 if row.label is None else names.index(row.label) for row in rows]
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {"image": pa.array(images, kind), "label": pa.array(labels, pa.int64())}
    return pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def _names(rows: list[Row]) -> list[str]:
    return sorted({row.label for row in rows if row.label})


def write_parquet(rows: list[Row], to: Path) -> ArrowData:
    import pyarrow.parquet as pq

    to.mkdir()
    for split, shards in halves(rows).items():
        for number, shard in enumerate(shards):
            pq.write_table(table(shard, _names(rows)), to / f"{split}-0000{number}-of-00002.parquet")
    return ArrowData(source="parquet", path=str(to), **SETTINGS)


def write_saved(rows: list[Row], to: Path) -> ArrowData:
    import pyarrow as pa

    to.mkdir()
    (to / "dataset_dict.json").write_text(json.dumps({"splits": list(halves(rows))}))
    for split, (first, second) in halves(rows).items():
        (to / split).mkdir()
        found = table([*first, *second], _names(rows))
        path = str(to / split / "data-00000-of-00001.arrow")
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_stream(sink, found.schema) as writer:
            writer.write_table(found, max_chunksize=7)
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_fingerprint": "0"}
        (to / split / "state.json").write_text(json.dumps(state))
    return ArrowData(source="hf-dataset", path=str(to), **SETTINGS)


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def write_tars(rows: list[Row], to: Path, mode: Any = "w") -> WebData:
    to.mkdir()
    ending = ".tar.gz" if mode == "w:gz" else ".tar"
    for split, shards in halves(rows).items():
        for number, shard in enumerate(shards):
            with tarfile.open(to / f"{split}-{number:03}{ending}", mode) as archive:
                for place, row in enumerate(shard):
                    add(archive, f"a/{number}{place:04}{row.file.suffix}", row.file.read_bytes())
                    add(archive, f"a/{number}{place:04}.json", json.dumps({"name": row.label}).encode())
    return WebData(source="webdataset", path=str(to), label="json.name", **SETTINGS)


Writer = Callable[[list[Row], Path], FileData]
WRITERS: dict[str, Writer] = {
    "image-folder": write_folder,
    "csv": write_csv,
    "parquet": write_parquet,
    "hf-dataset": write_saved,
    "webdataset": write_tars,
}
"""A way to pack images for every source of image files, by its name."""


def packer(source: str) -> Writer:
    """The writer of a source; skips the test where what it needs is not installed."""
    if source in ("parquet", "hf-dataset"):
        pytest.importorskip("pyarrow")
    return WRITERS[source]


def assert_same(first: ImageData, second: ImageData) -> None:
    """Both data sets have the same classes, and in every split the same pixels and labels."""
    assert first.classes == second.classes
    for split in ("train", "unlabeled", "validation", "test"):
        one, two = getattr(first, split), getattr(second, split)
        assert np.array_equal(one.images, two.images), split
        assert (one.labels is None) == (two.labels is None)
        assert one.labels is None or np.array_equal(one.labels, two.labels), split


def plain_images(root: Path) -> Path:
    """An image folder whose files have the same bytes everywhere: 3 train and 2 test images a class, 2 unlabelled."""
    pixels = np.arange(2 * 12 * 12 * 3, dtype=np.uint32)
    number = 0
    for split, count in (("train", 3), ("test", 2), ("unlabeled", 1)):
        for name in CLASSES:
            for _ in range(count):
                number += 1
                file = root / split / name / f"{number:02}.ppm"
                file.parent.mkdir(parents=True, exist_ok=True)
                values = (pixels[: 12 * 12 * 3] * (number * 7 + 1) % 251).astype(np.uint8)
                file.write_bytes(b"P6 12 12 255\n" + values.tobytes())
    return root


def grey(file: Path, seed: int) -> None:
    """Replace an image by a grey one."""
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 20), np.uint8)
    Image.fromarray(pixels).save(file)
