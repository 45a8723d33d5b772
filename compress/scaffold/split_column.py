"""Find the column of a table that says which split an image is in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from compress.data.names import SPLIT_WORDS
from compress.utils.messages import one_line, truncate_list

COLUMNS = ("split", "subset", "set", "partition", "fold")
FLAGS = ("is_valid", "is_validation", "is_val", "is_test", "is_train")  # of one split; fastai has `is_valid`
Values = Callable[[str], set[str]]
"""Returns the distinct values of a column."""


def find_split(columns: Sequence[str], values: Values) -> str | None:
    """Return the first column with the name of a split column and the word of a split among its values.

    Other words may be beside it: reading the table names the first row that has one.
    """
    return next((name for name in _named(columns, COLUMNS) if any(map(_is_split, values(name)))), None)


def columns_not_taken(columns: Sequence[str], values: Values) -> Iterator[str]:
    """Say why no column is the split where some are named like one, a sentence each."""
    for name in _named(columns, (*COLUMNS, *FLAGS)):
        found = sorted(filter(None, values(name)))
        what = f"its values are {truncate_list(found)}" if found else "it is empty"
        yield (
            f"The column {one_line(name)} is not read as the split: {what}; to read it, write train, validation, test "
            "or unlabeled there, in a column 'split'."
        )


def _is_split(value: str) -> bool:
    return value.lower() in SPLIT_WORDS


def _named(columns: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return the columns with wanted names, ignoring case, in the order of these; not those that are there twice."""
    lower = [name.strip().lower() for name in columns]
    return [columns[lower.index(name)] for name in wanted if lower.count(name) == 1]
