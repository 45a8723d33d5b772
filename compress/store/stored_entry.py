"""One entry of a store as `store list` shows it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path


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
