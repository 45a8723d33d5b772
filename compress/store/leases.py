"""Leases: which process makes or deletes an entry, also on file systems whose locks do not reach other machines.

A lease is a file that its holder creates exclusively and touches while it lives. A process that has ended on this
machine loses it at once; one on another machine, or one that hangs, when it has not touched it for `duration()`
seconds of the waiting process's own clock. A holder that loses its lease goes on running, so it asks `overtaken` before
it publishes: two makers of one entry are a waste, never damage.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from compress.utils.errors import CompressError, UsageError

VARIABLE = "COMPRESS_LEASE_S"
DEFAULT_S = 60.0
POLL_S = 0.1
GATE = "gate"
FOLDER = "locks"


def duration() -> float:
    """Return the seconds without a sign of life after which a lease is lost; `COMPRESS_LEASE_S` sets another number.

    Raises:
        UsageError: it is not a number of at least one second.
    """
    text = os.environ.get(VARIABLE, "")
    try:
        seconds = float(text) if text else DEFAULT_S
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 86_400:
        raise UsageError(f"{VARIABLE} must be a number of seconds from 1 to 86400, not {text!r}")
    return seconds


class Lease:
    """A claim on one name, of which one process at a time is the holder."""

    def __init__(self, path: Path, seconds: float | None = None) -> None:
        seconds = seconds or duration()
        self.path = path
        self._file = SoftFileLease(
            path, lease_duration=seconds, heartbeat_interval=seconds / 6, thread_local=False, timeout=0
        )
        self._empty: tuple[tuple[int, int], float] | None = None  # a file without a holder, and since when it is seen

    def claim(self) -> bool:
        """Become the holder if there is none; a holder on another machine is watched from one call to the next.

        Raises:
            CompressError: the holder has another duration.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._file.acquire(timeout=0)
        except Timeout:
            self._remove_empty()
            return False
        except LeaseSettingsMismatch as error:
            raise CompressError(f"{self.path}: its holder has another {VARIABLE}; set the same everywhere") from error
        return True

    def wait(self) -> None:
        """Become the holder, however long that takes."""
        while not self.claim():
            time.sleep(POLL_S)

    @property
    def overtaken(self) -> bool:
        """Whether another process has become the holder since; a file system that does not answer is no sign of it."""
        try:
            self.path.stat()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        owner = self._file.owner
        return owner is not None and owner.token != self._file.token

    @property
    def holder(self) -> tuple[str, int] | None:
        """Host and process of the holder."""
        owner = self._file.owner
        return (owner.hostname, owner.pid) if owner else None

    def release(self) -> None:
        """Give the lease up; one that is lost already stays with its new holder."""
        with suppress(OSError):
            self._file.release()

    def _remove_empty(self) -> None:
        """Remove the file of a process that was killed before it could write its name."""
        try:
            status = self.path.stat()
        except OSError:
            return
        if status.st_size:
            self._empty = None
            return
        seen = (status.st_ino, status.st_mtime_ns)
        if self._empty is None or self._empty[0] != seen:
            self._empty = (seen, time.monotonic())
        elif time.monotonic() - self._empty[1] > duration():
            self.path.unlink(missing_ok=True)


def entry_lease(root: Path, key: str) -> Lease:
    """Return the lease that whoever makes or deletes an entry holds."""
    return Lease(root / FOLDER / f"{key}.lease")


@contextmanager
def alone(root: Path, name: str) -> Iterator[None]:
    """Hold the lease `name` of a store."""
    lease = entry_lease(root, name)
    lease.wait()
    try:
        yield
    finally:
        lease.release()


def gate(root: Path) -> AbstractContextManager[None]:
    """Hold the lease that a job needs to start using an entry, and `clean` needs to take entries away."""
    return alone(root, GATE)
