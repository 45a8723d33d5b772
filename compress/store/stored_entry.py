"""Entries of a store as `store list` shows them, and the conditions of `store clean`."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

KEY = re.compile("[0-9a-f]{24}")
_KEY_IN_LOG = re.compile('"([0-9a-f]{24})"')
_LACKS_STAGES = re.compile('"event": "done".*"failed": \\["')


def keys_in_log(log: str) -> set[str]:
    """Return the keys of the entries that the `log.jsonl` of a run names."""
    return set(_KEY_IN_LOG.findall(log))


def keys_of_newest(logs: Iterable[tuple[str, bool]], newest: int | None) -> set[str]:
    """Return the keys that the `log.jsonl` of the `newest` finished runs of a recipe name, and of runs since then.

    Those since then go on, or lack stages that failed: they would take the place of a finished one, and its entries.

    Args:
        logs: Text of each log, the newest first, and whether its run came to its end; no more are read than needed.
        newest: How many, at least one; None for all.
    """
    keys, finished = set[str](), 0
    for text, ended in logs:
        keys |= keys_in_log(text)
        finished += ended and not lacks_stages(text)
        if finished == newest:
            break
    return keys


def lacks_stages(log: str) -> bool:
    """Return whether a run that came to its end has failed stages, by its `log.jsonl`."""
    return bool(_LACKS_STAGES.search(log))


@dataclass(frozen=True)
class Entry:
    """An entry of a store, or what a killed run has left of one (`unfinished`)."""

    path: Path
    key: str
    what: str
    bytes: int
    used: float  # when a run last used or made it, in seconds since 1970
    unfinished: bool = False

    @property
    def used_at(self) -> str:
        """Time of the last use in UTC."""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.used))


@dataclass(frozen=True)
class Conditions:
    """What must hold for an entry to be deleted."""

    older_than: timedelta | None = None
    max_size: int | None = None  # bytes of the store, down to which entries are deleted

    def hold(self, entry: Entry, left: int) -> bool:
        """Return whether they hold for an entry of a store that has `left` bytes."""
        large = self.max_size is None or left > self.max_size
        return large and (self.older_than is None or time.time() - entry.used >= self.older_than.total_seconds())
