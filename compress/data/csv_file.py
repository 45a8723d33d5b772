"""`csv`: a table of image paths and labels, one line per image."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from compress.data.decoding import file_source
from compress.data.image_io import exists
from compress.data.labels import sort_rows
from compress.data.layout import count_file, entries_of, is_folder
from compress.data.left_out import Tally
from compress.data.listing import Listing, list_files
from compress.data.names import SPLIT_WORDS
from compress.data.patterns import is_pattern
from compress.data.shards import find_shards
from compress.data.table_images import ImagesOfTable
from compress.data.tree import is_image
from compress.recipe.data import TableData
from compress.utils.errors import CompressError, UsageError
from compress.utils.messages import did_you_mean, located, one_line, truncate_list
from compress.utils.resources import expand

DELIMITERS = ",;\t|"
TABLES = (".csv", ".tsv")


class CsvData(TableData):
    """A CSV file with the paths of images, relative to its folder or to one in it; `{train,test}.csv` is several."""

    source: Literal["csv"]
    image: str = Field("path", description="column of the paths")


def list_csv(settings: CsvData) -> Listing:
    """List the images of a table, or of several with a split each; see `listing.list_images`.

    A row that repeats an image with the same label and split is left out and counted.
    """
    where = _where(settings.path)
    tally = Tally(where.parent)
    rows: dict[str, _Row] = {}  # by path in its normal form
    for table, part in tables(settings.path):
        images = ImagesOfTable(table)
        for line, cells in read_table(table, settings.image, [settings.label, settings.split], tally):
            place = f"{table}:{line}"
            file = images.find(cells[settings.image], settings.image, line)
            row = _Row(file, place, _part(cells, settings, place, part), cells[settings.label])
            first = rows.setdefault(os.path.normpath(file), row)
            if first is not row:
                _check_repeated(first, row, one_line(cells[settings.image]))
                tally.add("row", "repeats an image", place)
    listed = list(rows.values())
    by_part = sort_rows(
        ((row.part, row.label) for row in listed), settings.classes, str(where), lambda row: listed[row].place
    )
    _count_unlisted(rows, {table for table, _ in tables(settings.path)}, tally)
    parts = {name: ([listed[row].file for row in kept], labels) for name, (kept, labels) in by_part.parts.items()}
    return list_files(where, by_part.classes, parts, {}, tally.rows(), by_part.notes)


@dataclass(frozen=True)
class _Row:
    """A row of a table."""

    file: Path
    place: str  # file and line, for messages
    part: str
    label: str


def tables(path: str) -> list[tuple[Path, str]]:
    """Tables of a path, each with the part of rows without one: `{train,test}.csv` is several, each named by its part.

    Raises:
        UsageError: a table is not found, or only some of them have a split.
    """
    where = _where(path)
    return find_shards(path, TABLES) if is_pattern(where) and not exists(where) else [(where, "train")]


def _where(path: str) -> Path:
    return Path(expand(path)).expanduser()


def _check_repeated(first: _Row, row: _Row, image: str) -> None:
    number = first.place.rpartition(":")[2]
    if first.label != row.label:
        raise UsageError(
            f"{row.place}: {image} has the label '{one_line(row.label)}', and '{one_line(first.label)}' in line "
            f"{number}; an image has one label, remove the other row"
        )
    if first.part != row.part:
        raise UsageError(f"{row.place}: {image} is in {row.part}, and in {first.part} at {first.place}; remove one row")


def _count_unlisted(rows: dict[str, _Row], read: set[Path], tally: Tally) -> None:
    """Count what is beside the images of the tables that were read and in no row of them."""
    tables = {os.path.normpath(table.absolute()) for table in read}
    for folder in sorted({row.file.parent for row in rows.values()}):
        for entry in entries_of(folder, tally):
            file = folder / entry.name
            if is_folder(entry) or os.path.normpath(file.absolute()) in tables or os.path.normpath(file) in rows:
                continue
            if is_image(entry.name):
                tally.add("image", "in no row of the table", file)
            else:
                count_file(tally, folder, entry.name)


def read_table(
    table: Path, image: str, others: list[str | None], tally: Tally | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the lines of a CSV with a header as (line number, cells by column). Missing cells are empty. `image` is the
    column of image paths, `others` are columns that must be there too; None is skipped. Rows of empty cells are left
    out and counted in `tally`; an empty line is no row.

    The delimiter is the one of `,`, `;`, tab and `|` with which the header has the column `image`.

    Raises:
        CompressError: the file cannot be read.
        UsageError: the file is not a CSV in UTF-8 or UTF-16, lacks a column, or has it twice.
    """
    text = _text(table)
    known = _headers(table, text)
    columns = next((names for names in known if image in names), max(known, key=len))
    for column in (image, *others):
        if column is not None and column not in columns:
            there = truncate_list(columns)
            hint = did_you_mean(column, columns)
            raise UsageError(f"{table}:1: column '{one_line(column)}' not found{hint or ';'} columns: {there}")
        if column is not None and (count := columns.count(column)) > 1:
            raise UsageError(
                f"{table}:1: {count} columns '{one_line(column)}'; rename all but the one that is meant (columns: "
                f"{truncate_list(columns)})"
            )
    mark = DELIMITERS[known.index(columns)]
    # With a space before a quote, the quotes would be part of the value.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True, skipinitialspace=True)
    try:
        next(reader)
        for cells in reader:
            if not any(map(str.strip, cells)):
                if cells and tally is not None:
                    tally.add("row", "empty", f"{table}:{reader.line_num}")
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
        return [next(csv.reader([line], delimiter=mark, skipinitialspace=True), []) for mark in DELIMITERS]
    except csv.Error as error:
        raise UsageError(f"{table}:1: not valid CSV: {error}") from error


def _text(table: Path) -> str:
    try:
        content = table.read_bytes()
        encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
        return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except IsADirectoryError as error:
        raise UsageError(f"data.path: {table} is a folder, not a CSV file") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{table}:{line}: not UTF-8 text; save the table as UTF-8") from error
    except (FileNotFoundError, ValueError) as error:  # or a name that no file can have
        raise UsageError(f"data.path: {located(table)} does not exist") from error
    except OSError as error:
        raise CompressError(f"{table} cannot be read: {error.strerror}") from error


def _part(cells: dict[str, str], settings: CsvData, place: str, default: str) -> str:
    word = cells[settings.split] if settings.split else ""
    part = SPLIT_WORDS.get(word.lower() or default)
    if part is None:
        raise UsageError(f"{place}: unknown split '{one_line(word)}'; allowed: train, validation, test or unlabeled")
    return part


SOURCE = file_source(CsvData, "a CSV file of paths and labels", list_csv)
