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
    "tf32": [("tf32 tensorfloat 32 performance flop s", 1.0), ("tf32", 1.0)],
    "fp16": [("fp16 half precision performance flop s", 1.0), ("fp16", 1.0)],
    "tensor16": [("tensor fp16 bf16 performance flop s", 1.0), ("tensor fp16", 1.0)],
    "power": [("tdp w", 1.0), ("tdp", 1.0)],
    "price": [("release price usd", 1.0), ("release price", 1.0)],
    "name": [("system", 1.0), ("model", 1.0), ("hardware name", 1.0), ("name", 1.0)],
}

FP32_RATE = "FP32 rate"
BEST_RATE = "best 32- or 16-bit rate"
FORMATS = ("fp32", "tf32", "fp16", "tensor16")


@dataclass(frozen=True)
class Quantity:
    """A quantity of a table: the largest figure of some columns, divided by the largest of others.

    Attributes:
        unit: Its unit.
        top: Columns.
        bottom: Columns of the divisor.
        needs: Columns that a row must have; a quantity of several columns needs at least two of them in the table.
    """

    unit: str
    top: tuple[str, ...]
    bottom: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


QUANTITIES: dict[str, dict[str, Quantity]] = {
    "models": {"training compute": Quantity("FLOP", ("compute",))},
    "hardware": {
        FP32_RATE: Quantity("FLOP/s", ("fp32",)),
        "tensor FP16 rate": Quantity("FLOP/s", ("tensor16",)),
        BEST_RATE: Quantity("FLOP/s", FORMATS),
        "energy efficiency, FP32": Quantity("FLOP/s/W", ("fp32",), ("power",)),
        "energy efficiency of the best rate": Quantity("FLOP/s/W", FORMATS, ("power",)),
        "price-performance, FP32": Quantity("FLOP/s/USD", ("fp32",), ("price",)),
    },
    "steps": {
        "16 bits on ordinary units": Quantity("", ("fp32", "fp16"), ("fp32",), needs=("fp16", "fp32")),
        "tensor cores for 16 bits": Quantity("", ("tensor16",), ("fp32", "fp16"), needs=("tensor16", "fp32")),
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


def read_points(path: Path, kind: str, since: float) -> list[Points]:
    """Read every quantity of a table of `models` or of `hardware` whose columns the file has.

    Columns are matched by the words of their headings, regardless of order, case and brackets. Rows without a readable
    date or a positive figure are left out and counted.

    Args:
        path: A CSV file, UTF-8.
        kind: Key of `QUANTITIES`; `steps` are ratios within the rows of a table of hardware, and may be none.
        since: First year to use.

    Raises:
        UsageError: the file cannot be read, is not a table, or has none of the columns.
    """
    rows = _rows(path)
    headings = rows[0] if rows else []
    columns = {what: column for what in COLUMNS if (column := _column(headings, what))}
    found = [
        _points(name, quantity, rows[1:], columns, since)
        for name, quantity in QUANTITIES[kind].items()
        if "date" in columns and _has(columns, quantity)
    ]
    if not found and kind != "steps":
        raise UsageError(
            f"{path}: no column of {' or '.join(map(repr, _wanted(kind)))} beside a date; its headings are "
            f"{', '.join(map(repr, headings[:12])) or 'missing'}"
        )
    return found


Column = tuple[int, float]
Columns = Mapping[str, Column]


def _has(columns: Columns, quantity: Quantity) -> bool:
    """Whether a table has the columns of a quantity; the best of several needs at least two to choose from."""
    enough = sum(what in columns for what in quantity.top) >= min(2, len(quantity.top))
    return enough and all(what in columns for what in (*quantity.needs, *quantity.bottom[:1]))


def _points(name: str, quantity: Quantity, rows: list[list[str]], columns: Columns, since: float) -> Points:
    unused: Counter[str] = Counter()
    used = []
    for row in rows:
        year, value = read_year(_cell(row, columns["date"])), _value(row, quantity, columns)
        if value is None:
            unused["without a positive figure"] += 1
        elif year is None:
            unused["without a readable date"] += 1
        elif year < since:
            unused[f"before {since:g}"] += 1
        else:
            used.append((year, value, _cell(row, columns.get("name"))))
    used.sort()
    years, values, names = zip(*used, strict=True) if used else ((), (), ())
    return Points(name, quantity.unit, years, values, names, len(rows), dict(unused))


def _value(row: list[str], quantity: Quantity, columns: Columns) -> float | None:
    if any(_largest(row, (what,), columns) is None for what in quantity.needs):
        return None
    over = _largest(row, quantity.top, columns)
    if not quantity.bottom or over is None:
        return over
    under = _largest(row, quantity.bottom, columns)
    return _positive(over / under) if under else None


def _largest(row: list[str], names: Sequence[str], columns: Columns) -> float | None:
    figures = (_figure(row, columns[name]) for name in names if name in columns)
    return max((figure for figure in figures if figure is not None), default=None)


def this_year() -> float:
    """Return the current date as a year with a fraction."""
    return read_year(date.today().isoformat()) or 0.0


def read_year(text: str) -> float | None:
    """Parse 2012-09-30, 2012/09/30, 2012-09 or 2012, with or without a time, to a year with a fraction; else None."""
    match = re.match(r"\s*(\d{4})(?:[-/](\d{1,2}))?(?:[-/](\d{1,2}))?(?=\s*$|[\sT]\d{1,2}:)", text)
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
    yield from dict.fromkeys(quantity.top[0] for quantity in QUANTITIES[kind].values())


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
