"""`cifar10-sample`: 11,000 images of CIFAR-10 that come with the package, as sheets of lossless WebP."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from compress.data.source import Contents, Part, Raw, Source
from compress.recipe.data import DataSection
from compress.utils.errors import CompressError
from compress.utils.resources import ASSETS

FOLDER = ASSETS / "cifar10-sample"
SIDE = 32


class SampleData(DataSection):
    source: Literal["cifar10-sample"]


def contents(settings: SampleData, cache: Path | None) -> Contents:
    """What the sample holds; its 19 MB are hashed each time, which takes hundredths of a second."""
    sample = _description()
    hasher = hashlib.sha256(json.dumps(sample, sort_keys=True).encode())
    for split in sample["splits"].values():
        for name in split["sheets"]:
            try:
                hasher.update((FOLDER / name).read_bytes())
            except OSError as error:
                raise _damaged(name) from error
    counts = np.bincount(sample["splits"]["train"]["labels"], minlength=len(sample["classes"]))
    return Contents(hasher.hexdigest(), tuple(sample["classes"]), True, tuple(counts.tolist()))


def read(settings: SampleData, scratch: Path) -> Raw:
    """Decode the sheets."""
    sample = _description()
    train, test, validation, unlabeled = (
        _part(sample["splits"][name]) for name in ("train", "test", "validation", "unlabeled")
    )
    return Raw(tuple(sample["classes"]), train, test, validation, unlabeled)


def _part(split: dict[str, Any]) -> Part:
    images = np.concatenate([_sheet(name) for name in split["sheets"]])
    labels = None if split["labels"] is None else np.array(split["labels"], np.int64)
    if labels is not None and len(labels) != len(images):
        raise _damaged("sample.json")
    return Part(images, labels)


def _sheet(name: str) -> np.ndarray:
    try:
        with Image.open(FOLDER / name) as image:
            pixels = np.asarray(image.convert("RGB"))
    except OSError as error:
        raise _damaged(name) from error
    return pixels.reshape(-1, SIDE, SIDE, 3).transpose(0, 3, 1, 2)


def _description() -> dict[str, Any]:
    try:
        sample: dict[str, Any] = json.loads((FOLDER / "sample.json").read_text())
    except (OSError, ValueError) as error:
        raise _damaged("sample.json") from error
    return sample


def _damaged(name: str) -> CompressError:
    return CompressError(f"the embedded sample is damaged at {FOLDER / name}; install the package again")


SOURCE = Source(SampleData, "11,000 images of CIFAR-10 that come with the package", contents, read)
