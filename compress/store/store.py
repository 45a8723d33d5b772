"""The store: what stages made, under a key of everything that determines it.

An entry is a folder that was written aside, hashed, fsynced and renamed, so it is there whole or not at all. What a
killed run was making stays under `partial/`, where the next run resumes it. Any number of processes on any number of
machines may share a store; see `leases`.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from compress.store.file_systems import publish
from compress.store.jobs import RESERVED, Job, keys_in_use
from compress.store.leases import POLL_S, entry_lease, gate
from compress.store.manifest import MANIFEST, find_damage, seal_entry
from compress.store.remote import Remote
from compress.store.remote_lease import AnyLease, BothLeases
from compress.store.work_folders import open_folder, remove_left
from compress.utils.console import say
from compress.utils.errors import CompressError

FEW = 20  # keys that are looked up one by one
READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


class Store:
    """Entries by key below one folder, which several runs may share at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.on_use: Callable[[str], None] = lambda key: None  # called with each key when it is first used
        self._used: set[str] = set()
        self._verified: set[str] = set()
        self._damaged: set[str] = set()
        self._watched: dict[str, AnyLease] = {}  # of other processes, whose signs of life are timed
        self._job: Job | None = None

    @cached_property
    def remote(self) -> Remote | None:
        """The store on an object store that this one is a cache of, if any."""
        return Remote.of(self.root)

    def path(self, key: str) -> Path:
        """Return the folder of an entry, whether or not it exists."""
        return self.root / key

    def has(self, key: str) -> bool:
        """Return whether an entry exists and is whole; a damaged one is reported and treated as missing."""
        if key in self._verified:
            return True
        self._use(key)
        if not self._is_whole(key):
            if not self._fetch(key):
                return False
        elif self.remote and not self.remote.has(key):  # made without a network, or deleted there
            self._upload(self.remote, key)
        with suppress(OSError):  # another user's, or read-only
            os.utime(self.path(key) / MANIFEST)  # marks the last use
        self._verified.add(key)
        return True

    def exists(self, key: str) -> bool:
        """Return whether there is an entry, without reading its files."""
        return key in self.existing([key])

    def existing(self, keys: Collection[str]) -> set[str]:
        """Return those of the keys of which there is an entry, without reading files; many are looked up at once."""
        found = self._verified.intersection(keys)
        found |= {key for key in self._present(keys) if (self.path(key) / MANIFEST).is_file()}
        left = [key for key in keys if key not in found]
        if self.remote is None or not left:
            return found
        there = {key for key in left if self.remote.has(key)} if len(left) < FEW else self.remote.all_keys()
        return found | there.intersection(left)

    def _present(self, keys: Collection[str]) -> set[str]:
        """Return those of the keys that have a folder here; many are compared with one listing of the root."""
        if len(keys) < FEW:
            return set(keys)
        with suppress(FileNotFoundError), os.scandir(self.root) as entries:
            return {entry.name for entry in entries}.intersection(keys)
        return set()

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
        lease = self._watched.pop(key, None) or self._lease(key)
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

    def discard_unused(self, key: str) -> bool:
        """Delete the entry `key`, so that it is made again, unless another process uses or makes it.

        Returns:
            Whether it was deleted.
        """
        job, lease = self.job(), self._lease(key)
        if job is None or not lease.claim():
            return False
        try:
            with gate(self.root):  # a job that begins to use it waits for this, and finds it whole or not at all
                if key in keys_in_use(self.root, by_others=True):
                    return False
                aside = self.path(key).replace(job.folder() / key)
            self._verified.discard(key)
            if self.remote:
                self.remote.delete(key)
            shutil.rmtree(aside, ignore_errors=True)
        except OSError:  # another user's, or a file system that does not rename it
            return False
        finally:
            lease.release()
        return True

    def discard(self, key: str) -> None:
        """Delete the entry `key`, which is wrong, whoever uses it."""
        lease = self._lease(key)
        while not lease.claim():
            time.sleep(POLL_S)
        try:
            if self.remote:
                self.remote.delete(key)
            shutil.rmtree(self.path(key), ignore_errors=True)
            self._verified.discard(key)
        finally:
            lease.release()

    def maker(self, key: str) -> tuple[str, int] | None:
        """Return host and process of the maker of an entry, unless it is known to have ended."""
        lease = self._lease(key)
        holder = lease.holder
        if holder and lease.claim():
            lease.release()
            return None
        return holder

    def _lease(self, key: str) -> AnyLease:
        local = entry_lease(self.root, key)
        return BothLeases(local, self.remote.lease(key)) if self.remote else local

    def _is_whole(self, key: str) -> bool:
        """Return whether an entry is here and whole; a damaged one is reported."""
        if not self.path(key).is_dir():
            return False
        damage = find_damage(self.path(key))
        if damage and key not in self._damaged:
            say(f"store: {self.path(key)} is damaged ({damage}); rebuilding it")
            self._damaged.add(key)
        return damage is None

    def _fetch(self, key: str) -> bool:
        """Download an entry that the remote has."""
        if self.remote is None or not self.remote.has(key):
            return False
        job = self.job()
        with TemporaryDirectory(dir=job.folder() if job else None) as name:
            folder = Path(name) / key
            folder.mkdir()
            if not self.remote.fetch(key, folder):
                return False
            if self.path(key).is_dir() and not self._is_whole(key):
                shutil.rmtree(self.path(key), ignore_errors=True)
            publish(folder, self.path(key))
        return True

    def _make(self, lease: AnyLease, key: str, what: str, make: Callable[[Path], None]) -> bool:
        """Make and publish an entry; False if the lease was lost meanwhile, and nothing was published."""
        shutil.rmtree(self.path(key), ignore_errors=True)  # a damaged one
        host, process = entry_lease(self.root, key).holder or ("", os.getpid())
        folder = open_folder(self.root, key, host, process)
        try:
            if find_damage(folder, key) is not None:  # otherwise it could only not be published
                make(folder)
                shutil.rmtree(folder / "scratch", ignore_errors=True)
                seal_entry(folder, key, what)
        except Exception:
            if not self._is_overtaken(lease):
                raise
        if self._is_overtaken(lease):
            say(f"store: {what} was taken over by another process, as this one gave no sign of life")
            shutil.rmtree(folder, ignore_errors=True)
            return False
        if self.remote is None or self.remote.publish(folder, key):
            publish(folder, self.path(key))
            self._verified.add(key)
        remove_left(self.root, key)
        return key in self._verified

    def _is_overtaken(self, lease: AnyLease) -> bool:
        """Return whether another process makes the entry of a lease; not if the object store does not answer."""
        try:
            return lease.overtaken
        except CompressError:
            return False

    def _upload(self, remote: Remote, key: str) -> None:
        """Publish an entry of this machine at the URL, unless another process makes or deletes it there."""
        lease = remote.lease(key)
        if lease.claim():
            try:
                remote.publish(self.path(key), key)
            finally:
                lease.release()

    def job(self, folder: Path | None = None) -> Job | None:
        """Return this process as a job on the store, for the run in `folder`; None if the store is read-only."""
        if self._job is None and self.root.is_dir():
            try:
                self._job = Job(self.root)
            except OSError as error:
                if error.errno not in READ_ONLY:
                    raise
            else:
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

    def reserve(self, keys: Iterable[str]) -> None:
        """Keep the entries of keys, those that are there and those to come, from being deleted beside this process."""
        if job := self.job():
            job.note(*(f"{RESERVED}{key}" for key in keys))

    def _use(self, key: str) -> None:
        if key in self._used:
            return
        self._used.add(key)
        job = self.job()
        if job:
            job.note(key)
        self.on_use(key)
