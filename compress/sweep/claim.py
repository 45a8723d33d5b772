"""Claims of workers on trials: whoever holds one makes the trial; that of a process that ends is free."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compress.store.leases import Lease

Stamp = tuple[int, int]


class Claims:
    """The claims of one worker.

    The silence of a holder on another machine is timed by the lease object that watches it, so there is one per trial
    for the worker's lifetime.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._leases: dict[int, Lease] = {}

    @contextmanager
    def claim(self, number: int) -> Iterator[bool]:
        """Claim a trial for the time of the block; yields False where another worker has it."""
        if number not in self._leases:
            self._leases[number] = Lease(self._path(number))
        lease = self._leases[number]
        claimed = lease.claim()
        try:
            yield claimed
        finally:
            if claimed:
                lease.release()

    def stamp(self, number: int) -> Stamp | None:
        """Return what changes whenever the holder of a trial gives a sign of life; None where nobody holds it."""
        try:
            status = self._path(number).stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:05d}.lease"
