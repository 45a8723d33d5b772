"""What a source gives: its images as it has them, before they are shared out to the splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """Images as they lie in the source: uint8 `[n, 3, H, W]`, any strides; labels int64 `[n]`, or None."""

    images: Pixels
    labels: Labels | None = None


@dataclass(frozen=True)
class Raw:
    """The decoded parts of a source. Without a validation or a test part, one is cut from train."""

    classes: tuple[str, ...]
    train: Part
    test: Part | None
    validation: Part | None = None
    unlabeled: Part | None = None
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contents:
    """What is known of a source before anything is decoded.

    Attributes:
        fingerprint: stands for the bytes and labels of all images, wherever they lie and whenever they were written.
        classes: names, in the order of the labels.
        has_validation: whether the source has a validation split of its own.
        train_counts: labelled train images of each class, or None where that is known after reading only.
        has_test: whether the source has a test split of its own.
    """

    fingerprint: str
    classes: tuple[str, ...]
    has_validation: bool
    train_counts: tuple[int, ...] | None = None
    has_test: bool = True


@dataclass(frozen=True)
class Source:
    """The two things that a source does; `Any` is its section of the recipe.

    Attributes:
        contents: `(settings, cache)`; `cache` is a json file in which digests of files are kept, or None.
        read: `(settings, scratch)`; may write big arrays into the folder `scratch`, which exists and is deleted later.
    """

    contents: Callable[[Any, Path | None], Contents]
    read: Callable[[Any, Path], Raw]


class StoreLike(Protocol):
    """What is needed of the store."""

    root: Path

    def get(self, key: str, what: str, make: Callable[[Path], None]) -> tuple[Path, bool]:
        """Folder of the entry `key`, filled by `make(folder)` where there is none, and whether it was there."""
