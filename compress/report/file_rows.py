"""Rows of networks and files with their change against the headline's reference, as several tables have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from compress.efficiency.files import FileKey
from compress.report.savings import first_reference
from compress.report.tables import Column
from compress.results import RunRecord


class Change(Protocol):
    """A comparison of a network or file with what stands for a reference."""

    @property
    def reference(self) -> str: ...
    @property
    def variant(self) -> str: ...
    @property
    def runtime(self) -> str: ...
    @property
    def precision(self) -> str | None: ...


F = TypeVar("F")
C = TypeVar("C", bound=Change)


@dataclass(frozen=True)
class FileRow(Generic[F, C]):
    """What was found of a network or file, with its change against the reference; None for the reference itself."""

    variant: str
    files: tuple[str, ...]  # names of the files with these figures; pytorch is the network itself
    found: F
    change: C | None


def shown_reference(record: RunRecord) -> str | None:
    """Return the reference that changes are shown against."""
    return record.headline.reference or first_reference(record)


def changes_by_file(record: RunRecord, changes: Iterable[C]) -> Mapping[FileKey, C]:
    """Return the changes against the reference that is shown."""
    reference = shown_reference(record)
    return {(each.variant, each.runtime, each.precision): each for each in changes if each.reference == reference}


def merge_files(rows: Sequence[FileRow[F, C]], columns: Sequence[Column[FileRow[F, C]]]) -> list[FileRow[F, C]]:
    """Merge the files of a variant that have the same cells, which files of one network mostly have."""
    merged: dict[tuple[str, ...], FileRow[F, C]] = {}
    for row in rows:
        cells = tuple(column.write(row) for column in columns if column.heading != "files")
        merged[cells] = replace(row, files=merged[cells].files + row.files) if cells in merged else row
    return list(merged.values())
