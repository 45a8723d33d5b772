"""What a reader leaves out of a source, counted by reason, so that nothing vanishes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from compress.utils.errors import printable
from compress.utils.messages import one_line

MAX_REASONS = 200  # that are counted apart: a hostile folder can have a million endings
MAX_SHOWN = 12  # in a line
OTHER = "other reasons"
HIDDEN = "hidden"
NO_ENDING = "no ending"
SPECIAL = "pipe or device"
_ENDING = re.compile(r"\.[a-z0-9_-]{1,10}")


@dataclass(frozen=True)
class LeftOut:
    """Things of one kind that were left out for one reason."""

    kind: str  # `file`, `folder`, `row`, `member`, `image` or `image per epoch`
    reason: str  # ending of the files, name of the folders, or why
    count: int
    first: str  # the first of them, for messages


class LeftOutRow(Protocol):
    """A `LeftOut`, or its record in the results of a run."""

    @property
    def kind(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def count(self) -> int: ...


class Tally:
    """Counts what is left out while the source in `root` is listed; the first of each is named relative to it."""

    def __init__(self, root: Path | None = None) -> None:
        self._prefix = f"{root}{os.sep}" if root else ""
        self._counts: dict[tuple[str, str], list[int | str]] = {}

    def add(self, kind: str, reason: str, first: object, count: int = 1) -> None:
        """Count `count` things of a kind that are left out for a reason; `first` names the first of them."""
        if not count:
            return
        key = (kind, reason)
        if key not in self._counts:
            if len(self._counts) >= MAX_REASONS:
                key = (kind, OTHER)
            self._counts.setdefault(key, [0, str(first)])
        self._counts[key][0] = int(self._counts[key][0]) + count

    def extend(self, others: Iterable[LeftOut]) -> None:
        """Add what another reader has counted."""
        for other in others:
            self.add(other.kind, other.reason, other.first, other.count)

    def rows(self) -> tuple[LeftOut, ...]:
        """Return the counts by kind, largest first."""
        rows = [
            LeftOut(kind, printable(reason), int(count), printable(str(first).removeprefix(self._prefix)))
            for (kind, reason), (count, first) in self._counts.items()
        ]
        return tuple(sorted(rows, key=lambda row: (row.kind, -row.count, row.reason)))


def file_kind(name: str) -> str:
    """Return the ending of a file's name in lower case, as the reason for which it is left out.

    `a.jpg?w=300`, as a download leaves it, is `.jpg?`; a long or odd ending is none.
    """
    if name.startswith("."):
        return HIDDEN
    stem, mark, _ = name.partition("?")
    ending = os.path.splitext(stem)[1].lower()  # noqa: PTH122 - a Path each is slow for a million files
    return ending + mark if _ENDING.fullmatch(ending) else NO_ENDING


def left_out_line(rows: Iterable[LeftOutRow]) -> str:
    """Describe what was left out: `5 files (.heic 3, .db 2), 1 folder (@eaDir)`; empty if nothing was."""
    kinds: dict[str, list[LeftOutRow]] = {}
    for row in rows:
        kinds.setdefault(row.kind, []).append(row)
    return ", ".join(_kind(kind, own) for kind, own in kinds.items())


def _kind(kind: str, rows: Sequence[LeftOutRow]) -> str:
    total = sum(row.count for row in rows)
    shown = [f"{one_line(row.reason)} {row.count:,}" for row in rows[:MAX_SHOWN]]
    more = [f"{len(rows) - MAX_SHOWN} more reasons"] if len(rows) > MAX_SHOWN else []
    noun, space, rest = kind.partition(" ")
    return f"{total:,} {noun}{'' if total == 1 else 's'}{space}{rest} ({', '.join([*shown, *more])})"
