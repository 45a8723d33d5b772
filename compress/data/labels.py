"""Labels of a table's rows, as sources have them, sorted into parts and classes in a few bytes per row."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from compress.data.names import is_number, order_classes
from compress.data.source import Labels, Rows
from compress.utils.errors import UsageError
from compress.utils.messages import one_line, truncate_list
from compress.utils.names import same_name

PARTS = ("train", "validation", "test", "unlabeled")
NO_LABEL = frozenset(("", "-1", "-1.0", "nan", "<na>", "null"))  # texts, in lower case, that stand for no label
Label = str | int | None
Value = Label | float
"""A label as a source has it."""
V = TypeVar("V", bound=Value)


@dataclass(frozen=True)
class SortedRows:
    """Rows of a table by part, in order, with the labels of each part that has them."""

    classes: tuple[str, ...]
    parts: dict[str, tuple[Rows, Labels | None]]
    notes: tuple[str, ...] = ()  # remarks on the labels, one sentence each


def share_equal(values: Iterable[V]) -> Iterator[V]:
    """Yield values, equal ones as one object: readers of files make one per row, of some 60 bytes each."""
    known: dict[V, V] = {}
    return (known.setdefault(value, value) for value in values)


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
