"""Listings of image sources, however the images are packed: parts in order, labels, and how to read each image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import MappingProxyType

import numpy as np

from compress import registry
from compress.data.digests import digests
from compress.data.labels import SortedRows
from compress.data.left_out import LeftOut
from compress.data.names import order_notes
from compress.data.shards import changed_since_manifest
from compress.data.source import Labels, Rows
from compress.recipe.data import FileData
from compress.utils.errors import UsageError
from compress.utils.hashing import key_of
from compress.utils.texts import Texts


@dataclass(frozen=True)
class ListedPart:
    """The images of one part, in order."""

    count: int  # number of images
    labels: Labels | None  # int64 `[count]`, or None for unlabelled images
    name: Callable[[int], str]  # name of the image of a row, for messages
    # read the images of rows in the order given, each a file or its content; ascending rows are the fastest
    read: Callable[[Rows], Iterator[Path | bytes]]
    shard: Callable[[Rows], Rows] | None = None  # shard of the image of each row; None where an image is a file


@dataclass(frozen=True)
class Listing:
    """The images of a source, before any is decoded."""

    where: str  # path of the source, for messages
    classes: tuple[str, ...]  # names of the classes, in the order of the labels
    parts: dict[str, ListedPart]  # the images of each part, in the order in which parts are listed
    # digest of the bytes and labels of all images; takes the file that caches digests of files
    fingerprint: Callable[[Path | None], str]
    called: dict[str, str]  # the source's own name of a part, where it differs
    left_out: tuple[LeftOut, ...] = ()  # what the reader left out, by reason
    notes: tuple[str, ...] = ()  # remarks on how the source is read, one sentence each
    sequential: str | None = None  # name of a shard whose images can be read from front to end only
    shards: Sequence[Path] = ()  # files of many images each

    def counts(self, part: str) -> list[int]:
        """Number of images of each class."""
        labels = self.parts[part].labels
        counts = np.zeros(0, np.int64) if labels is None else labels
        return [int(count) for count in np.bincount(counts, minlength=len(self.classes))]

    def by_part(self) -> dict[str, tuple[int, ...]]:
        """Number of images of each class of each part; of unlabelled images their number alone."""
        labelled = {name: part.labels is not None for name, part in self.parts.items()}
        return {name: tuple(self.counts(name)) if labelled[name] else (self.parts[name].count,) for name in labelled}


def list_images(settings: FileData) -> Listing:
    """List the images of a source of image files.

    Raises:
        CompressError: something cannot be read.
        UsageError: the source is not laid out as it should be; the message says where.
    """
    source = registry.source(settings.source)
    assert source.list_images, f"{settings.source} has no image files"
    return source.list_images(settings)


def check_reading(settings: FileData, where: str, *, has_test: bool, sequential: str | None) -> None:
    """Refuse settings with which the images of a source cannot be read; see `Contents`.

    Raises:
        UsageError: there is no test split and none is to be cut, or images in any order are to be read from a shard
            that is compressed.
    """
    if sequential and settings.images == "files":
        raise UsageError(
            f"data.images: {sequential} is compressed, and `files` reads images in any order; decompress the shards, "
            "or set `images: pixels`"
        )
    if not has_test and settings.test is None:
        raise UsageError(f"{where}: no test images found; `test: 0.2` in data cuts a fifth off for them")


def list_files(
    where: Path,
    classes: tuple[str, ...],
    parts: dict[str, tuple[list[Path], Labels | None]],
    called: dict[str, str],
    left_out: tuple[LeftOut, ...] = (),
    notes: tuple[str, ...] = (),
) -> Listing:
    """Make a listing of image files; its fingerprint does not depend on their paths."""

    packed = {name: (Texts(map(str, files)), labels) for name, (files, labels) in parts.items()}

    def fingerprint(cache: Path | None) -> str:
        files = [Path(file) for files, _ in packed.values() for file in files]
        hashes = iter(digests(files, cache, where.name))
        listed = {
            name: [[next(hashes), int(label)] for label in (labels if labels is not None else [-1] * len(files))]
            for name, (files, labels) in packed.items()
        }
        return key_of(classes=classes, parts=listed)

    listed = {name: _files(where, files, labels) for name, (files, labels) in packed.items()}
    return Listing(str(where), classes, listed, fingerprint, called, left_out, (*order_notes(classes), *notes))


def _files(where: Path, files: Texts, labels: Labels | None) -> ListedPart:
    folder = where if where.is_dir() else where.parent

    def name(row: int) -> str:
        file = Path(files[row])
        return str(file.relative_to(folder) if file.is_relative_to(folder) else file)

    return ListedPart(len(files), labels, name, lambda rows: (Path(files[row]) for row in rows.tolist()))


def list_shards(
    where: str,
    shards: Sequence[Path],
    starts: Sequence[int] | Rows,
    rows: SortedRows,
    name: Callable[[int], str],
    read: Callable[[Rows], Iterator[bytes]],
    left_out: tuple[LeftOut, ...] = (),
    stated: Mapping[str, str] = MappingProxyType({}),
    **settings: str | None,
) -> Listing:
    """Make a listing of images in shards, row after row; its fingerprint covers whole shards and the rows of each part.

    Args:
        starts: First row of each shard.
        read: Contents of the images of rows, in the order given.
        left_out: What of the shards is no image or label.
        stated: SHA-256 that shards must have, by absolute path.
        settings: Other settings that decide which bytes are images and labels.
    """

    def fingerprint(cache: Path | None) -> str:
        digest = {
            part: [hashlib.sha256(each.data).hexdigest() for each in arrays if each is not None]
            for part, arrays in rows.parts.items()
        }
        of_shards = digests(shards, cache, PurePath(where).name)
        for shard, found in zip(shards, of_shards, strict=True):
            if stated.get(str(shard.absolute()), found) != found:
                raise changed_since_manifest(shard)
        return key_of(classes=rows.classes, shards=of_shards, rows=digest, settings=settings)

    def listed(own: Rows, labels: Labels | None) -> ListedPart:
        return ListedPart(
            len(own),
            labels,
            lambda row: name(int(own[row])),
            lambda rows: read(own[rows]),
            lambda rows: np.searchsorted(starts, own[rows], "right") - 1,
        )

    parts = {part: listed(*arrays) for part, arrays in rows.parts.items()}
    notes = (*order_notes(rows.classes), *rows.notes)
    return Listing(where, rows.classes, parts, fingerprint, {}, left_out, notes, shards=shards)
