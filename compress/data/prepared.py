"""Images as memory-mapped arrays: decoded once into the store, whatever the source."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from compress import registry
from compress.data.source import Labels, Pixels, StoreLike
from compress.data.sources import data_key
from compress.data.splits import Pieces, share_out
from compress.recipe.data import Data, FileData
from compress.utils.console import say, task

SPLITS = ("train", "unlabeled", "validation", "test")
BLOCK = 256  # images that are copied at once


@dataclass(frozen=True)
class Split:
    """Images uint8 `[n, 3, H, W]`, memory-mapped, read-only; labels int64 `[n]`, or None where there are none.

    Images lie in the order of their source: for folders, class after class. Shuffle before taking the first few.
    """

    images: Pixels
    labels: Labels | None

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class ImageData:
    """A whole data set. `unlabeled` may be empty; `skipped` counts the files that were no images."""

    name: str
    classes: tuple[str, ...]
    resolution: int
    train: Split
    unlabeled: Split
    validation: Split
    test: Split
    key: str
    skipped: int


def prepare(settings: Data, store: StoreLike, seed: int) -> ImageData:
    """Images of the source that `settings` names, taken from the store, or decoded into it.

    Raises:
        CompressError: images cannot be read, or are not there.
        UsageError: the source is not laid out as it should be, or has too few labels for the settings.
    """
    name = Path(settings.path).resolve().name if isinstance(settings, FileData) else settings.source
    key = data_key(settings, seed, store.root / "fingerprints.json")
    folder, _ = store.get(key, f"images of {name}", lambda work: _decode(settings, seed, work))
    about = json.loads((folder / "data.json").read_text())
    splits = {split: _open(folder, split) for split in SPLITS}
    return ImageData(
        name, tuple(about["classes"]), about["resolution"], **splits, key=key, skipped=len(about["skipped"])
    )


def _decode(settings: Data, seed: int, work: Path) -> None:
    scratch = work / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)  # what a killed run left may be half an array
    scratch.mkdir()
    raw = registry.source(settings.source).read(settings, scratch)
    if raw.skipped:
        files = "file is" if len(raw.skipped) == 1 else "files are"
        say(f"data: {len(raw.skipped)} {files} no image and skipped: {', '.join(raw.skipped[:3])}")
    for split, pieces in share_out(raw, settings, seed).items():
        _write(work, split, pieces)
    about = {"classes": raw.classes, "resolution": raw.train.images.shape[-1], "skipped": raw.skipped}
    (work / "data.json").write_text(json.dumps(about, indent=1))


def _write(work: Path, split: str, pieces: Pieces) -> None:
    """Write a split as `.npy` in blocks, so that memory stays flat however many images there are."""
    total = sum(len(rows) for _, rows in pieces)
    shape = (total, *pieces[0][0].images.shape[1:])
    with (work / f"images-{split}.npy").open("wb") as file, task(f"images: {split}", total) as advance:
        _write_header(file, shape)
        for part, rows in pieces:
            for start in range(0, len(rows), BLOCK):
                block = part.images[rows[start : start + BLOCK]]
                file.write(block.tobytes())
                advance(len(block))
    if split != "unlabeled":
        part, rows = pieces[0]
        assert part.labels is not None
        np.save(work / f"labels-{split}.npy", part.labels[rows])


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _open(folder: Path, split: str) -> Split:
    path = folder / f"images-{split}.npy"
    labels = folder / f"labels-{split}.npy"
    try:
        images = np.load(path, mmap_mode="r")
    except ValueError:  # no bytes cannot be mapped: a split without images
        images = np.load(path)
        images.flags.writeable = False
    return Split(images, np.load(labels, mmap_mode="r") if labels.exists() else None)
