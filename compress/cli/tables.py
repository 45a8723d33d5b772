"""Tables on narrow terminals: no figure is cut off or broken over lines."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.measure import Measurement
    from rich.table import Column, Table

MAX_WIDTH = 240  # of tables that are piped somewhere
NAME_WIDTH = 20  # longer words of names are broken where space is short


def natural_width(console: Console, table: Table) -> int:
    """Return the width in characters at which no cell of a table is broken, at most `MAX_WIDTH`."""
    columns = table.columns
    return min(MAX_WIDTH, _width(console, _part(table, columns, [_natural(console, column) for column in columns])))


def in_parts(console: Console, table: Table, width: int) -> list[Table]:
    """Split a table that is too wide into several, each with the first column and as many others as fit.

    Columns of figures, which are right-aligned, keep their width; headings and names are broken between words.
    """
    first, *others = table.columns
    groups: list[list[Column]] = [[first]]
    for column in others:
        wider = [*groups[-1], column]
        if len(groups[-1]) > 1 and _spare(console, table, wider, width) < 0:
            groups.append([first, column])
        else:
            groups[-1] = wider
    parts = [_part(table, group, _widths(console, table, group, width)) for group in groups]
    for part in parts[1:]:
        part.title = None
    for part in parts[:-1]:
        part.caption = None
    return parts


def _widths(console: Console, table: Table, columns: Sequence[Column], width: int) -> list[int]:
    """Share out the width: what each column needs, then in turns to those that have more to show."""
    widths = [_least(console, column) for column in columns]
    spare = _spare(console, table, columns, width)
    wanted = [_natural(console, column) - least for column, least in zip(columns, widths, strict=True)]
    for number in cycle(range(len(columns))):
        if spare <= 0 or not any(wanted):
            break
        if wanted[number]:
            widths[number] += 1
            wanted[number] -= 1
            spare -= 1
    return widths


def _spare(console: Console, table: Table, columns: Sequence[Column], width: int) -> int:
    """Return what a table of some columns leaves of a width if they are as narrow as can be."""
    return width - _width(console, _part(table, columns, [_least(console, column) for column in columns]))


def _width(console: Console, item: RenderableType) -> int:
    return _measured(console, item).maximum


def _measured(console: Console, item: RenderableType) -> Measurement:
    """Return the widths of the longest word and the longest line."""
    from rich.measure import Measurement

    return Measurement.get(console, console.options.update_width(10 * MAX_WIDTH), item)


def _least(console: Console, column: Column) -> int:
    heading, *cells = (_measured(console, cell) for cell in (column.header, *column.cells))
    if column.justify == "right":
        return max([heading.minimum, *(cell.maximum for cell in cells)])
    return max(min(size.minimum, NAME_WIDTH) for size in (heading, *cells))


def _natural(console: Console, column: Column) -> int:
    return max(_width(console, cell) for cell in (column.header, *column.cells))


def _part(table: Table, columns: Sequence[Column], widths: Sequence[int]) -> Table:
    """Return a table of some columns, each as wide as is said."""
    part = copy.copy(table)
    part.columns, part.rows = [], []
    for column, width in zip(columns, widths, strict=True):
        part.add_column(column.header, justify=column.justify, overflow="fold", width=width)
    for row in zip(*(column.cells for column in columns), strict=True):
        part.add_row(*row)
    return part
