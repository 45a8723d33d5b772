"""Claims of workers on trials: whoever holds one makes the trial; that of a process that ends is free."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import Timeout

from compress.store.file_systems import StoreLock


@contextmanager
def claim(folder: Path, name: str) -> Iterator[bool]:
    """Claim `name` among the workers on `folder`, for the time of the block; yields False where another one has it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = StoreLock(folder / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
