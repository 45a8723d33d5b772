"""The store: what stages made, under a key of everything that determines it.

An entry is a folder that was written aside, hashed, fsynced and renamed, so it is there whole or not at all. What a
killed run was making stays under `partial/`, where the next run resumes it. Any number of processes on any number of
machines may share a store; see `leases`.
"""

from __future__ import annotations

import os
import shutil
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from compress.store.file_systems import publish
from compress.store.jobs import Job
from compress.store.leases import POLL_S, Lease, entry_lease
from compress.store.manifest import MANIFEST, find_damage, seal_entry
from compress.store.work_folders import open_folder, remove_left
from compress.utils.console import say


class Store:
    """Entries by key below one folder, which several runs may share at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.on_use: Callable[[str], None] = lambda key: None  # called with each key when it is first used
        self._used: set[str] = set()
        self._verified: set[str] = set()
        self._damaged: set[str] = set()
        self._watched: dict[str, Lease] = {}  # of other processes, whose signs of life are timed
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

    def exists(self, key: str) -> bool:
        """Return whether there is an entry, without reading its files."""
        return key in self._verified or (self.path(key) / MANIFEST).is_file()

    def get(self, key: str, what: str, make: Callable[[Path], None]) -> tuple[Path, bool]:
        """Return the folder of the entry `key`, and whether it was in the store already.

        If it was not, `make(folder)` fills one. What an earlier process left of it is in that folder, so `make` can
        resume from what it finds there; `scratch/` in it does not become part of the entry. If another process is
        making the same entry, wait for it and return its result.
        """
        waiting = False
        while (made := self.offer(key, what, make)) is None:
            if not waiting:
                say(f"store: another run is making {what}; waiting for it")
            waiting = True
            time.sleep(POLL_S)
        return self.path(key), not made

    def offer(self, key: str, what: str, make: Callable[[Path], None]) -> bool | None:
        """Make the entry `key` as `get` does, unless another process is making it.

        Returns:
            Whether this process made it; None if another one is making it.
        """
        if self.has(key):
            return False
        lease = self._watched.pop(key, None) or entry_lease(self.root, key)
        if not lease.claim():
            self._watched[key] = lease
            return None
        try:
            if self.has(key):
                return False
            if self._make(lease, key, what, make):
                return True
            return False if self.has(key) else None
        finally:
            lease.release()

    def discard(self, key: str, what: str) -> None:
        """Delete the entry `key`, so that it is made again."""
        lease = entry_lease(self.root, key)
        lease.wait()
        try:
            shutil.rmtree(self.path(key), ignore_errors=True)
            self._verified.discard(key)
        finally:
            lease.release()

    def holder(self, key: str) -> tuple[str, int] | None:
        """Return host and process of the maker of an entry."""
        return entry_lease(self.root, key).holder

    def _make(self, lease: Lease, key: str, what: str, make: Callable[[Path], None]) -> bool:
        """Make and publish an entry; False if the lease was lost meanwhile, and nothing was published."""
        shutil.rmtree(self.path(key), ignore_errors=True)  # a damaged one
        host, process = lease.holder or ("", os.getpid())
        folder = open_folder(self.root, key, host, process)
        try:
            make(folder)
            shutil.rmtree(folder / "scratch", ignore_errors=True)
            seal_entry(folder, key, what)
        except Exception:
            if not lease.lost:
                raise
        if lease.lost:
            say(f"store: {what} was taken over by another process, as this one gave no sign of life")
            shutil.rmtree(folder, ignore_errors=True)
            return False
        publish(folder, self.path(key))
        remove_left(self.root, key)
        self._verified.add(key)
        return True

    def job(self, folder: Path | None = None) -> Job | None:
        """Return this process as a job on the store, for the run in `folder`; None if the store is read-only."""
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
