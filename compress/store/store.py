"""The store: what stages made, under a key of everything that determines it.

An entry is a folder that was written aside, hashed, fsynced and renamed, so it is there whole or not at all. What a
killed run was making stays under `partial/`, where the next run resumes it.
"""

from __future__ import annotations

import os
import shutil
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from filelock import Timeout

from compress.store.file_systems import StoreLock, publish
from compress.store.leases import Job
from compress.store.manifest import MANIFEST, find_damage, seal_entry
from compress.utils.console import say


class Store:
    """Entries by key below one folder, which several runs may share at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.on_use: Callable[[str], None] = lambda key: None  # called with each key when it is first used
        self._used: set[str] = set()
        self._verified: set[str] = set()
        self._damaged: set[str] = set()
        self._job: Job | None = None

    def path(self, key: str) -> Path:
        """Return the folder of an entry, whether or not it exists."""
        return self.root / key

    def has(self, key: str) -> bool:
        """Return whether an entry exists and is whole; a damaged one is reported and treated as missing."""
        if key in self._verified:
            return True
        self._use(key)
        if not self.path(key).is_dir():
            return False
        damage = find_damage(self.path(key))
        if damage:
            if key not in self._damaged:
                say(f"store: {self.path(key)} is damaged ({damage}); rebuilding it")
            self._damaged.add(key)
            return False
        with suppress(OSError):  # another user's, or read-only
            os.utime(self.path(key) / MANIFEST)  # marks the last use
        self._verified.add(key)
        return True

    def get(self, key: str, what: str, make: Callable[[Path], None]) -> tuple[Path, bool]:
        """Return the folder of the entry `key`, and whether it was in the store already.

        If it was not, `make(folder)` fills one. A restarted run passes the same folder, so `make` can resume from what
        it finds there; `scratch/` in it does not become part of the entry. If another run is making the same entry,
        wait for it and return its result.
        """
        if self.has(key):
            return self.path(key), True
        with self._lock(key, what):
            if self.has(key):
                return self.path(key), True
            shutil.rmtree(self.path(key), ignore_errors=True)
            partial = self.root / "partial" / key
            partial.mkdir(parents=True, exist_ok=True)
            make(partial)
            shutil.rmtree(partial / "scratch", ignore_errors=True)
            seal_entry(partial, key, what)
            publish(partial, self.path(key))
            self._verified.add(key)
        return self.path(key), False

    def discard(self, key: str, what: str) -> None:
        """Delete the entry `key`, so that it is made again."""
        with self._lock(key, what):
            shutil.rmtree(self.path(key), ignore_errors=True)
            self._verified.discard(key)

    def job(self, folder: Path | None = None) -> Job | None:
        """Return this process's lease on the store, for the run in `folder`; None if the store is read-only."""
        if self._job is None and self.root.is_dir():
            with suppress(OSError):
                self._job = Job(self.root)
                weakref.finalize(self, self._job.end)  # also when the process ends
        if self._job and folder:
            self._job.note(f"folder {folder.absolute()}")
        return self._job

    @contextmanager
    def temporary(self) -> Iterator[None]:
        """Keep temporary files in the store meanwhile, where the next run removes those of a killed one."""
        job = self.job()
        with job.temporary() if job else nullcontext():
            yield

    def _use(self, key: str) -> None:
        if key in self._used:
            return
        self._used.add(key)
        job = self.job()
        if job:
            job.note(key)
        self.on_use(key)

    @contextmanager
    def _lock(self, key: str, what: str) -> Iterator[None]:
        lock = entry_lock(self.root, key)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"store: another run is making {what}; waiting for it")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def entry_lock(root: Path, key: str) -> StoreLock:
    """Return the lock that whoever makes or deletes an entry holds."""
    folder = root / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return StoreLock(folder / f"{key}.lock")
