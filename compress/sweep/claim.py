"""Claims of workers on trials: whoever holds one makes the trial; that of a process that ends is free."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compress.store.leases import Lease


@contextmanager
def claim(folder: Path, name: str) -> Iterator[bool]:
    """Claim `name` among the workers on `folder`, for the time of the block; yields False where another one has it."""
    lease = Lease(folder / f"{name}.lease")
    claimed = lease.claim()
    try:
        yield claimed
    finally:
        if claimed:
            lease.release()
