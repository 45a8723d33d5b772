"""Listings of image sources, however the images are packed: parts in order, labels, and how to read each image."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from compress import registry
from compress.data.digests import digests
from compress.data.left_out import LeftOut
from compress.data.names import is_number, order_classes, order_notes
from compress.data.shards import changed_since_manifest
from compress.data.source import Labels, Rows
from compress.recipe.data import FileData
from compress.utils.errors import UsageError
from compress.utils.hashing import key_of
from compress.utils.messages import one_line, truncate_list
from compress.utils.names import same_name
from compress.utils.texts import Texts

PARTS = ("train", "validation", "test", "unlabeled")
NO_LABEL = frozenset(("", "-1", "-1.0", "nan", "<na>", "null"))  # texts, in lower case, that stand for no label
Label = str | int | None
Value = Label | float
"""A label as a source has it."""


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


@dataclass(frozen=True)
class SortedRows:
    """Rows of a table by part, in order, with the labels of each part that has them."""

    classes: tuple[str, ...]
    parts: dict[str, tuple[Rows, Labels | None]]
    notes: tuple[str, ...] = ()  # remarks on the labels, one sentence each


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
            part: [hashlib.sha256(each).hexdigest() for each in arrays if each is not None]
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


def sort_rows(
    rows: Iterable[tuple[str, Value]],
    classes: Sequence[str] | None,
    where: str,
    name: Callable[[int], str],
) -> SortedRows:
    """Sort rows `(part, label)` into parts, and map labels to class indices.

    A train row without a label, or with -1 or NaN, is unlabelled. Whole numbers, and text that is a number but not a
    class name, are indices into `classes`; `1.0` is 1. Without `classes`, the classes are the distinct train labels in
    the order of `order_classes`. Only validation may lack a class.

    Raises:
        UsageError: a label is not one of the classes, a class has no images, or there are fewer than two classes.
    """
    listed = _ListedLabels.of(rows, name)
    train = listed.distinct("train")
    if not train:
        raise UsageError(f"{where}: no labelled train images found")
    names = tuple(map(same_name, classes)) if classes else order_classes(str(label) for label, _ in train)
    if len(set(names)) < max(2, len(names)):
        raise UsageError(f"{where}: expected two or more classes without repetition, found {truncate_list(names)}")
    numbers = {label: number for number, label in enumerate(names)}
    if classes:
        _refuse_counting_from_one(listed.codes, numbers, where)
    parts: dict[str, tuple[Rows, Labels | None]] = {}
    for part in PARTS:
        own = listed.rows(part)
        if not len(own):
            continue
        labels = None
        if part != "unlabeled":
            of_code = np.full(len(listed.codes), -1, np.int64)
            for label, row in listed.distinct(part):
                of_code[listed.codes[label]] = _number(label, numbers, row, name, classes)
            labels = of_code[listed.labels[own]]
            absent = [names[number] for number in np.flatnonzero(np.bincount(labels, minlength=len(names)) == 0)]
            if absent and part != "validation":
                way_out = "; or make them train rows: `test: 0.2` in data cuts a fifth off" if part == "test" else ""
                raise UsageError(
                    f"{where}: no {part} image of {truncate_list(absent)}; every class needs at least one{way_out}"
                )
        parts[part] = (own, labels)
    gaps = f"{listed.gaps:,} rows have NaN or null as their label: they are read as images without one."
    return SortedRows(names, parts, (gaps,) if listed.gaps else ())


@dataclass(frozen=True)
class _ListedLabels:
    """Labels of rows as a source has them: five bytes per row, however long they are."""

    parts: NDArray[np.int8]  # of each row, its part as an index in `PARTS`
    labels: NDArray[np.int32]  # of each row, its label as a number in `codes`; -1: none
    codes: dict[Label, int]  # distinct labels, numbered in the order of rows
    firsts: dict[tuple[str, int], tuple[Label, int]]  # first row of each label in each part, in the order of rows
    gaps: int  # number of rows with NaN or null as their label

    @classmethod
    def of(cls, rows: Iterable[tuple[str, Value]], name: Callable[[int], str]) -> _ListedLabels:
        """Read rows; a `UsageError` for one without a label that needs one."""
        places = {part: place for place, part in enumerate(PARTS)}
        parts, labels, gaps = array("b"), array("i"), 0
        codes: dict[Label, int] = {}
        firsts: dict[tuple[str, int], tuple[Label, int]] = {}
        for row, (part, label) in enumerate(rows):
            known = _label(label, row, name)
            gaps += known is None and label not in (None, "", -1, "-1")
            if known is None and part in ("validation", "test"):
                raise UsageError(f"{name(row)}: a {part} image needs a label")
            part = "unlabeled" if known is None else part
            code = -1 if known is None else codes.setdefault(known, len(codes))
            firsts.setdefault((part, code), (known, row))
            parts.append(places[part])
            labels.append(code)
        return cls(np.frombuffer(parts, np.int8), np.frombuffer(labels, np.int32), codes, firsts, gaps)

    def rows(self, part: str) -> Rows:
        """Return the rows of a part, ascending."""
        return np.flatnonzero(self.parts == PARTS.index(part))

    def distinct(self, part: str) -> list[tuple[Label, int]]:
        """Return the distinct labels of a part, each with its first row, in the order of rows."""
        return [first for (own, code), first in self.firsts.items() if own == part and code >= 0]


def _label(label: Value, row: int, name: Callable[[int], str]) -> Label:
    """Return a label as whole number or text, None for none: pandas writes whole numbers beside gaps as 1.0 and nan."""
    if isinstance(label, float):
        if math.isnan(label):
            return None
        if not label.is_integer():
            raise UsageError(f"{name(row)}: the label {label} is not a whole number")
        label = int(label)
    if isinstance(label, str):
        if label.lower() in NO_LABEL:
            return None
        whole, dot, zeros = label.partition(".")
        if dot and is_number(whole) and zeros and not zeros.strip("0"):
            return whole
    return None if label == -1 else label


def _refuse_counting_from_one(labels: Iterable[Label], numbers: dict[str, int], where: str) -> None:
    """Refuse labels 1 to n of n named classes: as indices, which start at 0, all of them would be of the next class."""
    words = {str(label) for label in labels if label is not None and (isinstance(label, int) or label not in numbers)}
    if not words or not all(map(is_number, words)):
        return
    values = sorted(map(int, words))
    if values[0] == 1 and values[-1] == len(numbers):
        raise UsageError(
            f"{where}: the labels are 1 to {len(numbers)}, but indices into `classes` start at 0; subtract 1 from "
            "each, or write the names"
        )


def _number(
    label: Label, numbers: dict[str, int], row: int, name: Callable[[int], str], classes: Sequence[str] | None
) -> int:
    word = same_name(str(label))
    if word in numbers and not (classes and isinstance(label, int)):
        return numbers[word]
    if classes and is_number(word) and int(word) < len(numbers):
        return int(word)
    raise UsageError(f"{name(row)}: the label '{one_line(word)}' is not one of the classes {truncate_list(numbers)}")
