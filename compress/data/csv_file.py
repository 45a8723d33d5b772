"""`csv`: a table of image paths and labels, one line per image."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from compress.data.decoding import file_source
from compress.data.image_io import is_file
from compress.data.listing import SPLIT_WORDS, Label, Listing, list_files, sort_rows
from compress.recipe.data import TableData
from compress.utils.errors import CompressError, UsageError
from compress.utils.messages import did_you_mean, one_line, truncate_list
from compress.utils.resources import expand

DELIMITERS = ",;\t|"


class CsvData(TableData):
    """A CSV file with the paths of images, relative to its own folder."""

    source: Literal["csv"]
    image: str = Field("path", description="column of the paths")


def list_csv(settings: CsvData) -> Listing:
    """List the images of a table, each of which it may have once; see `listing.list_images`."""
    table = Path(expand(settings.path)).expanduser()
    files: list[Path] = []
    lines: dict[Path, int] = {}
    rows: list[tuple[str, Label]] = []
    for line, cells in read_table(table, settings.image, [settings.label, settings.split]):
        place = f"{table}:{line}"
        file = table.parent / cells[settings.image]
        if not cells[settings.image]:
            raise UsageError(f"{place}: no path in the column {settings.image}")
        if file in lines:
            raise UsageError(f"{place}: {one_line(cells[settings.image])} repeats line {lines[file]}; remove one")
        if not is_file(file):
            raise UsageError(
                f"{place}: file {one_line(cells[settings.image])} not found; paths are relative to the CSV's folder"
            )
        rows.append((_part(cells, settings, place), cells[settings.label]))
        files.append(file)
        lines[file] = line
    by_part = sort_rows(rows, settings.classes, str(table), lambda row: f"{table}:{lines[files[row]]}")
    parts = {name: ([files[row] for row in kept], labels) for name, (kept, labels) in by_part.parts.items()}
    return list_files(table, by_part.classes, parts, {})


def read_table(table: Path, image: str, others: list[str | None]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the lines of a CSV with a header as (line number, cells by column). Missing cells are empty. `image` is the
    column of image paths, `others` are columns that must be there too; None is skipped.

    The delimiter is the one of `,`, `;`, tab and `|` with which the header has the column `image`.

    Raises:
        CompressError: the file cannot be read.
        UsageError: the file is not a CSV in UTF-8, or lacks a column.
    """
    text = _text(table)
    known = _headers(table, text)
    columns = next((names for names in known if image in names), max(known, key=len))
    for column in (image, *others):
        if column is not None and column not in columns:
            there = truncate_list(columns)
            hint = did_you_mean(column, columns)
            raise UsageError(f"{table}:1: column '{one_line(column)}' not found{hint or ';'} columns: {there}")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=DELIMITERS[known.index(columns)], strict=True)
    try:
        next(reader)
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) > len(columns):
                raise UsageError(f"{table}:{reader.line_num}: {len(cells)} cells, but the header has {len(columns)}")
            padded = [*cells, *[""] * (len(columns) - len(cells))]
            yield reader.line_num, {name: cell.strip() for name, cell in zip(columns, padded, strict=True)}
    except csv.Error as error:
        raise UsageError(f"{table}:{reader.line_num}: not valid CSV: {error}") from error


def columns_of(table: Path) -> list[str]:
    """Names of the columns, split by the delimiter that gives the most of them."""
    return max(_headers(table, _text(table)), key=len)


def _headers(table: Path, text: str) -> list[list[str]]:
    """The header, split by each of the delimiters."""
    line = text.partition("\n")[0].rstrip("\r")
    try:
        return [next(csv.reader([line], delimiter=mark), []) for mark in DELIMITERS]
    except csv.Error as error:
        raise UsageError(f"{table}:1: not valid CSV: {error}") from error


def _text(table: Path) -> str:
    try:
        return table.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UsageError(f"data.path: {table} does not exist") from error
    except IsADirectoryError as error:
        raise UsageError(f"data.path: {table} is a folder, not a CSV file") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{table}:{line}: not UTF-8 text; save the table as UTF-8") from error
    except OSError as error:
        raise CompressError(f"{table} cannot be read: {error.strerror}") from error


def _part(cells: dict[str, str], settings: CsvData, place: str) -> str:
    word = cells[settings.split] if settings.split else ""
    part = SPLIT_WORDS.get(word.lower() or "train")
    if part is None:
        raise UsageError(f"{place}: unknown split '{one_line(word)}'; allowed: train, validation, test or unlabeled")
    return part


SOURCE = file_source(CsvData, "a CSV file of paths and labels", list_csv)
