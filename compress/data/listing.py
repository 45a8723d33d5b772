"""Which images a source of files holds, whatever packs them: the parts in order, their labels, and how to read each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress import registry
from compress.data.digests import digests
from compress.data.source import Labels
from compress.recipe.data import FileData
from compress.utils.errors import UsageError
from compress.utils.hashing import key_of
from compress.utils.messages import clean, few

PARTS = ("train", "validation", "test", "unlabeled")
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("unlabeled", "unlabelled", "unsupervised"), "unlabeled"),
}
"""What a split may be called, and the part that it is."""
MAX_DIGITS = 100  # of a label that is a number
Rows = NDArray[np.int64]
Label = str | int | None


@dataclass(frozen=True)
class Listed:
    """The images of one part, in order.

    Attributes:
        labels: int64 `[count]`, or None for unlabelled images.
        name: what messages call the image of a row.
        items: every n-th of the images, one after the other, each a file or the bytes of one; may be called again.
    """

    count: int
    labels: Labels | None
    name: Callable[[int], str]
    items: Callable[[int], Iterator[Path | bytes]]


@dataclass(frozen=True)
class Listing:
    """The images of a source, before any is decoded.

    Attributes:
        where: the source's path, for messages.
        fingerprint: what stands for bytes and labels of all images; takes the cache of digests.
        called: the source's own name of each part, where that is another.
    """

    where: str
    classes: tuple[str, ...]
    parts: dict[str, Listed]
    fingerprint: Callable[[Path | None], str]
    called: dict[str, str]

    def counts(self, part: str) -> list[int]:
        """Images of each class."""
        labels = self.parts[part].labels
        counts = np.zeros(0, np.int64) if labels is None else labels
        return [int(count) for count in np.bincount(counts, minlength=len(self.classes))]


@dataclass(frozen=True)
class Sorted:
    """Rows of a table, sorted out: the rows of each part, in order, and the labels of those that have them."""

    classes: tuple[str, ...]
    parts: dict[str, tuple[Rows, Labels | None]]


def list_images(settings: FileData) -> Listing:
    """List the images of a source of image files.

    Raises:
        CompressError: something cannot be read.
        UsageError: the source is not laid out as it should be; the message says where.
    """
    source = registry.source(settings.source)
    assert source.list_images, f"{settings.source} has no image files"
    return source.list_images(settings)


def of_files(
    where: Path, classes: tuple[str, ...], parts: dict[str, tuple[list[Path], Labels | None]], called: dict[str, str]
) -> Listing:
    """A listing of image files; where they lie and what they are called does not matter to its fingerprint."""

    def fingerprint(cache: Path | None) -> str:
        files = [file for files, _ in parts.values() for file in files]
        hashes = iter(digests(files, cache, where.name))
        listed = {
            name: [[next(hashes), int(label)] for label in (labels if labels is not None else [-1] * len(files))]
            for name, (files, labels) in parts.items()
        }
        return key_of(classes=classes, parts=listed)

    listed = {name: _files(where, files, labels) for name, (files, labels) in parts.items()}
    return Listing(str(where), classes, listed, fingerprint, called)


def _files(where: Path, files: list[Path], labels: Labels | None) -> Listed:
    folder = where if where.is_dir() else where.parent

    def name(row: int) -> str:
        return str(files[row].relative_to(folder) if files[row].is_relative_to(folder) else files[row])

    return Listed(len(files), labels, name, lambda every: iter(files[::every]))


def of_shards(
    where: Path,
    shards: Sequence[Path],
    found: Sorted,
    name: Callable[[int], str],
    items: Callable[[Rows], Iterator[bytes]],
    **settings: str | None,
) -> Listing:
    """A listing of images that lie in shards, row after row; its fingerprint is of whole shards and of what is read.

    Args:
        where: the source's path.
        shards: the files, in the order of their rows.
        found: which rows make which part.
        name: what messages call a row.
        items: the bytes of rows, which rise.
        settings: what else decides which bytes are images and labels.
    """

    def fingerprint(cache: Path | None) -> str:
        rows = {
            part: [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays if array is not None]
            for part, arrays in found.parts.items()
        }
        return key_of(classes=found.classes, shards=digests(shards, cache, where.name), rows=rows, settings=settings)

    def listed(rows: Rows, labels: Labels | None) -> Listed:
        return Listed(len(rows), labels, lambda row: name(int(rows[row])), lambda every: items(rows[::every]))

    parts = {part: listed(*arrays) for part, arrays in found.parts.items()}
    return Listing(str(where), found.classes, parts, fingerprint, {})


def sort_out(
    rows: Iterable[tuple[str, Label]], classes: Sequence[str] | None, where: str, name: Callable[[int], str]
) -> Sorted:
    """Sort rows `(part, label)` into parts, and turn labels into numbers.

    A train image without a label is an unlabelled one; -1 is no label. Whole numbers are places in `classes`, and so is
    text that is a number and no name. Without `classes`, they are the train labels, numbers by size, text by letters.

    Raises:
        UsageError: a label is of no class, a class has no image, or there are fewer than two classes.
    """
    parts: dict[str, list[tuple[int, Label]]] = {}
    for row, (part, label) in enumerate(rows):
        known = None if label in ("", -1, "-1") else label
        if known is None and part in ("validation", "test"):
            raise UsageError(f"{name(row)}: has no label, which a {part} image needs")
        parts.setdefault("unlabeled" if known is None else part, []).append((row, known))
    train = [label for _, label in parts.get("train", []) if label is not None]
    if not train:
        raise UsageError(f"{where}: has no labelled train images")
    names = tuple(classes) if classes else _names(train)
    if len(set(names)) < max(2, len(names)):
        raise UsageError(f"{where}: needs two or more classes, each once, and has {few(names)}")
    numbers = {label: number for number, label in enumerate(names)}
    listed: dict[str, tuple[Rows, Labels | None]] = {}
    for part in (part for part in PARTS if part in parts):
        labels = None
        if part != "unlabeled":
            labels = np.array([_number(label, numbers, row, name, classes) for row, label in parts[part]], np.int64)
            gone = [names[number] for number in np.flatnonzero(np.bincount(labels, minlength=len(names)) == 0)]
            if gone:
                raise UsageError(f"{where}: has no {part} image of {few(gone)}; each class needs one at least")
        listed[part] = (np.array([row for row, _ in parts[part]], np.int64), labels)
    return Sorted(names, listed)


def is_number(text: str) -> bool:
    """Whether text is a whole number, of no more digits than one is read from."""
    return text.isdecimal() and len(text) <= MAX_DIGITS


def _names(labels: list[str | int]) -> tuple[str, ...]:
    """Names of classes from the labels of train images."""
    words = {str(label) for label in labels}
    if all(is_number(word) for word in words):
        return tuple(sorted(words, key=lambda word: (int(word), word)))
    return tuple(sorted(words))


def _number(
    label: Label, numbers: dict[str, int], row: int, name: Callable[[int], str], classes: Sequence[str] | None
) -> int:
    word = str(label)
    if word in numbers and not (classes and isinstance(label, int)):
        return numbers[word]
    if classes and is_number(word) and int(word) < len(numbers):
        return int(word)
    raise UsageError(f"{name(row)}: the label '{clean(word)}' is none of the classes {few(numbers)}")
