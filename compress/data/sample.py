"""`cifar10-sample`: 11,000 images of CIFAR-10 that come with the package, as sheets of lossless WebP."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from compress.data.source import Contents, Labels, Part, Pixels, Raw, Source
from compress.recipe.data import DataSection
from compress.utils.errors import CompressError
from compress.utils.resources import ASSETS

FOLDER = ASSETS / "cifar10-sample"
SIDE = 32


class SampleData(DataSection):
    source: Literal["cifar10-sample"]


@dataclass(frozen=True)
class Sheets:
    """A split of the sample: the files of its images, and their labels, None for unlabelled ones."""

    sheets: tuple[str, ...]
    labels: Labels | None


@dataclass(frozen=True)
class Sample:
    """`sample.json`: the names of the classes, the splits, and the whole as canonical JSON."""

    classes: tuple[str, ...]
    splits: dict[str, Sheets]
    text: bytes

    @classmethod
    def read(cls) -> Sample:
        """Read `sample.json`.

        Raises:
            CompressError: the file is missing or damaged.
        """
        try:
            values = json.loads((FOLDER / "sample.json").read_text())
        except (OSError, ValueError) as error:
            raise _damaged("sample.json") from error
        splits = {
            name: Sheets(tuple(row["sheets"]), None if row["labels"] is None else np.array(row["labels"], np.int64))
            for name, row in values["splits"].items()
        }
        return cls(tuple(values["classes"]), splits, json.dumps(values, sort_keys=True).encode())


def contents(settings: SampleData, cache: Path | None) -> Contents:
    """Describe the sample; its 19 MB are hashed each time, which takes hundredths of a second."""
    sample = Sample.read()
    hasher = hashlib.sha256(sample.text)
    for split in sample.splits.values():
        for name in split.sheets:
            try:
                hasher.update((FOLDER / name).read_bytes())
            except OSError as error:
                raise _damaged(name) from error
    labels = sample.splits["train"].labels
    assert labels is not None
    counts = np.bincount(labels, minlength=len(sample.classes))
    return Contents(hasher.hexdigest(), sample.classes, True, tuple(counts.tolist()))


def read(settings: SampleData, scratch: Path) -> Raw:
    """Decode the sheets."""
    sample = Sample.read()
    train, test, validation, unlabeled = (
        _part(sample.splits[name]) for name in ("train", "test", "validation", "unlabeled")
    )
    return Raw(sample.classes, train, test, validation, unlabeled)


def _part(split: Sheets) -> Part:
    images = np.concatenate([_sheet(name) for name in split.sheets])
    if split.labels is not None and len(split.labels) != len(images):
        raise _damaged("sample.json")
    return Part(images, split.labels)


def _sheet(name: str) -> Pixels:
    try:
        with Image.open(FOLDER / name) as image:
            pixels = np.asarray(image.convert("RGB"))
    except OSError as error:
        raise _damaged(name) from error
    return pixels.reshape(-1, SIDE, SIDE, 3).transpose(0, 3, 1, 2)


def _damaged(name: str) -> CompressError:
    return CompressError(f"the embedded sample is damaged at {FOLDER / name}; reinstall the package")


SOURCE = Source(SampleData, "11,000 images of CIFAR-10 that come with the package", contents, read)
