"""Tables of published points, as CSV: the shipped ones, and own ones with Epoch AI's column names."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from compress.utils.errors import UsageError

PETAFLOP_S_DAY = 1e15 * 86_400
"""Operations of a petaflop/s-day, the unit of AI and Compute."""

MAX_FILE = 200 * 2**20

COLUMNS = {
    # Column: [(words that its heading contains, factor to the unit)], the first match wins.
    "date": [("publication date", 1.0), ("release date", 1.0), ("date", 1.0)],
    "compute": [
        ("training compute flop", 1.0),
        ("training compute petaflop s days", PETAFLOP_S_DAY),
        ("training compute teraflop s days", PETAFLOP_S_DAY / 1000),
    ],
    "fp32": [("fp32 single precision performance flop s", 1.0), ("fp32", 1.0)],
    "fp16": [("tensor fp16 bf16 performance flop s", 1.0), ("tensor fp16", 1.0), ("fp16", 1.0)],
    "power": [("tdp w", 1.0), ("tdp", 1.0)],
    "price": [("release price usd", 1.0), ("release price", 1.0)],
    "name": [("system", 1.0), ("model", 1.0), ("hardware name", 1.0), ("name", 1.0)],
}

QUANTITIES: dict[str, dict[str, tuple[str, str | None]]] = {
    # Table: quantities, and the columns that they are made of (the second divides the first).
    "models": {"training compute": ("compute", None)},
    "hardware": {
        "FP32 rate": ("fp32", None),
        "FP16 rate, with matrix units where there are any": ("fp16", None),
        "energy efficiency, FP32": ("fp32", "power"),
        "price-performance, FP32": ("fp32", "price"),
    },
}


@dataclass(frozen=True)
class Points:
    """Points of one quantity of a table.

    Attributes:
        quantity: Name of the quantity.
        unit: Unit of `values`.
        years: [points], with fractions.
        values: [points], positive.
        names: [points].
        rows: Rows of the table.
        unused: Rows that were not used, by reason.
    """

    quantity: str
    unit: str
    years: tuple[float, ...]
    values: tuple[float, ...]
    names: tuple[str, ...]
    rows: int
    unused: Mapping[str, int]


UNITS = {"compute": "FLOP", "fp32": "FLOP/s", "fp16": "FLOP/s", "power": "W", "price": "USD"}


def read_points(path: Path, kind: str, since: float) -> list[Points]:
    """Read every quantity of a table of `models` or of `hardware` whose columns the file has.

    Columns are matched by the words of their headings, regardless of order, case and brackets. Rows without a readable
    date or a positive figure are left out and counted.

    Args:
        path: A CSV file, UTF-8.
        kind: Key of `QUANTITIES`.
        since: First year to use.

    Raises:
        UsageError: the file cannot be read, is not a table, or has none of the columns.
    """
    rows = _rows(path)
    headings = rows[0] if rows else []
    when = _column(headings, "date")
    found = []
    for quantity, (top, bottom) in QUANTITIES[kind].items():
        over, under = _column(headings, top), _column(headings, bottom) if bottom else None
        if when is None or over is None or (bottom and under is None):
            continue
        unit = f"{UNITS[top]}/{UNITS[bottom]}" if bottom else UNITS[top]
        found.append(_points(quantity, unit, rows[1:], (when, over, under, _column(headings, "name")), since))
    if not found:
        raise UsageError(
            f"{path}: no column of {' or '.join(map(repr, _wanted(kind)))} beside a date; its headings are "
            f"{', '.join(map(repr, headings[:12])) or 'missing'}"
        )
    return found


Column = tuple[int, float]


def _points(quantity: str, unit: str, rows: list[list[str]], columns: Sequence[Column | None], since: float) -> Points:
    when, over, under, name = columns
    assert when and over
    unused: Counter[str] = Counter()
    used = []
    for row in rows:
        year, value = read_year(_cell(row, when)), _figure(row, over)
        if value is not None and under is not None:
            divisor = _figure(row, under)
            value = _positive(value / divisor) if divisor else None
        if value is None:
            unused["without a positive figure"] += 1
        elif year is None:
            unused["without a readable date"] += 1
        elif year < since:
            unused[f"before {since:g}"] += 1
        else:
            used.append((year, value, _cell(row, name)))
    used.sort()
    years, values, names = zip(*used, strict=True) if used else ((), (), ())
    return Points(quantity, unit, years, values, names, len(rows), dict(unused))


def read_year(text: str) -> float | None:
    """Parse 2012-09-30, 2012-09 or 2012 to a year with a fraction; None for any other text."""
    match = re.match(r"\s*(\d{4})(?:-(\d{1,2}))?(?:-(\d{1,2}))?(?!\d)", text)
    if not match:
        return None
    year, month, day = (int(part or 1) for part in match.groups())
    try:
        at = date(year, month, day)
    except ValueError:
        return None
    start, end = date(year, 1, 1), date(year, 12, 31)
    return year + (at - start).days / ((end - start).days + 1)


def read_figure(text: str) -> float | None:
    """Parse a positive finite figure, with or without thousands separators; None for any other text."""
    try:
        value = float(text.strip().replace(",", "").replace(" ", ""))
    except ValueError:
        return None
    return _positive(value)


def _positive(value: float) -> float | None:
    return value if math.isfinite(value) and value > 0 else None


def _figure(row: list[str], column: Column) -> float | None:
    value = read_figure(_cell(row, column))
    return None if value is None else _positive(value * column[1])


def _cell(row: list[str], column: Column | None) -> str:
    return row[column[0]] if column is not None and column[0] < len(row) else ""


def _column(headings: list[str], what: str) -> Column | None:
    """Find the first heading that matches, and its factor to the unit."""
    plain = [" ".join(re.findall(r"[a-z0-9]+", heading.lower())) for heading in headings]
    tests: tuple[Callable[[str, str], bool], ...] = (str.__eq__, str.startswith)
    for test in tests:
        for words, factor in COLUMNS[what]:
            for index, heading in enumerate(plain):
                if test(heading, words):
                    return index, factor
    return None


def _wanted(kind: str) -> Iterator[str]:
    yield from dict.fromkeys(top for top, _ in QUANTITIES[kind].values())


def _rows(path: Path) -> list[list[str]]:
    try:
        if path.stat().st_size > MAX_FILE:
            raise UsageError(f"{path} is larger than {MAX_FILE >> 20} MiB: not a table of published points")
        with path.open(newline="", encoding="utf-8-sig", errors="strict") as file:
            return [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} is not a CSV file in UTF-8: {error}") from error
