"""Tables of a report, independent of their output: terminal, Markdown or HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from compress.results import RunRecord, Variant

R = TypeVar("R")


@dataclass(frozen=True)
class Column(Generic[R]):
    """A column: its heading, how a row's cell is written, and whether it holds figures, which are right-aligned."""

    heading: str
    write: Callable[[R], str]
    figure: bool = True


@dataclass(frozen=True)
class Table:
    """A table ready for output."""

    key: str  # short name, valid as an HTML id
    title: str  # heading
    note: str  # how to read the table; may be empty
    headings: tuple[str, ...]  # [columns]
    figures: tuple[bool, ...]  # [columns], which columns hold figures
    rows: tuple[tuple[str, ...], ...]  # [rows, columns] of plain text, not escaped
    chart: Callable[[], str | None]  # draw the chart above the table as SVG; None where there is nothing to draw
    empty: str  # sentence in the place of a table without rows: why it has none


@dataclass(frozen=True)
class VariantRow(Generic[R]):
    """A part of a variant's record, with the id of the variant."""

    variant: str
    part: R


def make_table(
    key: str,
    title: str,
    note: str,
    columns: Sequence[Column[R]],
    records: Iterable[R],
    chart: Callable[[], str | None] = lambda: None,
    empty: str = "Nothing in this run belongs here.",
) -> Table:
    """Lay out records as a table, one row per record; `empty` is printed where there are none."""
    return Table(
        key,
        title,
        note,
        tuple(column.heading for column in columns),
        tuple(column.figure for column in columns),
        tuple(tuple(column.write(record) for column in columns) for record in records),
        chart,
        empty,
    )


def to_rich(table: Table) -> RichTable:
    """Lay out a table for the terminal; cells are text, never rich's markup."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    rich = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, title=Text(table.title) if table.title else None)
    rich.title_justify = "left"
    for heading, figure in zip(table.headings, table.figures, strict=True):
        rich.add_column(Text(heading), justify="right" if figure else "left", overflow="fold")
    for cells in table.rows:
        rich.add_row(*map(Text, cells))
    return rich


def variant_rows(record: RunRecord, parts: Callable[[Variant], Iterable[R] | None]) -> list[VariantRow[R]]:
    """Collect one row per part of every variant."""
    return [VariantRow(variant.id, part) for variant in record.variants for part in parts(variant) or ()]


def variants_by_id(record: RunRecord) -> dict[str, Variant]:
    """The variants of a run by their ids."""
    return {variant.id: variant for variant in record.variants}
