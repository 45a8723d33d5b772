"""A data source: how it declares itself, and its images as it has them, before they are shared out to the splits.

A new source is one file with a `SOURCE` beside this one, and a line in `compress.registry.SOURCES`. A source of image
files only lists them, and `compress.data.decoding.file_source` does the rest; any other gives `contents` and `read`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from compress.utils.system import version_of

if TYPE_CHECKING:
    from compress.data.left_out import LeftOut
    from compress.data.listing import Listing
    from compress.recipe.data import DataSection

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
Rows = NDArray[np.int64]
Digests = NDArray[np.bytes_]


class Images(Protocol):
    """Images uint8 `[n, 3, H, W]`: an array, or what is indexed like one and decodes images when they are read."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def nbytes(self) -> int: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Pixels]: ...
    def __getitem__(self, rows: Any, /) -> Pixels: ...


@dataclass(frozen=True)
class Part:
    """Images as the source has them: uint8 `[n, 3, H, W]`, any strides; labels int64 `[n]`, or None."""

    images: Images
    labels: Labels | None = None
    rows: Rows | None = None  # int64 `[n]`, rows of the images in the source's listing, where it has one
    # `[n]`, SHA-256 of the file of each image, which the test split is cut by; None for that of the pixels
    digests: Digests | None = None


@dataclass(frozen=True)
class Raw:
    """The decoded parts of a source. A validation or test part that is None is cut from train."""

    classes: tuple[str, ...]
    train: Part
    test: Part | None
    validation: Part | None = None
    unlabeled: Part | None = None
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contents:
    """Description of a source before anything is decoded."""

    fingerprint: str  # digest of the bytes and labels of all images, independent of paths and modification times
    classes: tuple[str, ...]  # names of the classes, in the order of the labels
    has_validation: bool  # whether the source has a validation split of its own
    train_counts: tuple[int, ...] | None = None  # labelled train images of each class; None if unknown before decoding
    has_test: bool = True  # whether the source has a test split of its own
    left_out: tuple[LeftOut, ...] = ()  # what the source has and is not read, by reason
    notes: tuple[str, ...] = ()  # remarks on how the source is read, one sentence each
    sequential: str | None = None  # name of a shard whose images can be read from front to end only
    # images of each class of each part, of unlabelled images their number alone; None if unknown before decoding
    part_counts: dict[str, tuple[int, ...]] | None = None


@dataclass(frozen=True)
class Source:
    """A data source. `Any` stands for an instance of `section`."""

    # its section of the recipe, whose `source` is a `Literal` of the names that it has in the registry
    section: type[DataSection]
    about: str  # what it reads, in one line
    # `(settings, cache)`: describe the source without decoding an image. `cache` is a JSON file in which digests of
    # files are kept, or None.
    contents: Callable[[Any, Path | None], Contents]
    # `(settings, scratch)`: decode the source. May write big arrays into the folder `scratch`, which exists and is
    # deleted later.
    read: Callable[[Any, Path], Raw]
    list_images: Callable[[Any], Listing] | None = None  # `(settings)`: list the image files, for sources that have any
    packages: tuple[str, ...] = ()  # modules that must be importable, beside what this package always has
    install: str = "pip install 'compress-model[data]'"  # command that installs `packages`

    def missing(self) -> list[str]:
        """Names of the packages that are not installed."""
        return [package for package in self.packages if version_of(package) is None]
