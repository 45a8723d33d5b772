"""The store: what stages made, under a key of everything that determined it.

An entry is a folder that was written aside, hashed, fsynced and renamed, so that it is there whole or not at all. What
a killed run was making stays under `partial/` and is gone on with.
"""

from __future__ import annotations

import json
import os
import shutil
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from compress.store.leases import Job
from compress.utils.atomic import fsync, write_atomic
from compress.utils.console import say
from compress.utils.hashing import file_digest, key_of

MANIFEST = "entry.json"


class Store:
    """Entries by key below one folder, which several runs may share at once.

    Attributes:
        on_use: Called with each key when it is used first.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.on_use: Callable[[str], None] = lambda key: None
        self._used: set[str] = set()
        self._verified: set[str] = set()
        self._damaged: set[str] = set()
        self._job: Job | None = None

    def path(self, key: str) -> Path:
        return self.root / key

    def has(self, key: str) -> bool:
        """Whether an entry is there whole; a damaged one is said and counts as absent."""
        if key in self._verified:
            return True
        self._use(key)
        if not self.path(key).is_dir():
            return False
        damage = damage_of(self.path(key))
        if damage:
            if key not in self._damaged:
                say(f"store: {self.path(key)} is damaged ({damage}) and is made again")
            self._damaged.add(key)
            return False
        with suppress(OSError):  # of somebody else, or read-only
            os.utime(self.path(key) / MANIFEST)  # when it was used last
        self._verified.add(key)
        return True

    def get(self, key: str, what: str, make: Callable[[Path], None]) -> tuple[Path, bool]:
        """Folder of the entry `key`, and whether it was taken from the store.

        Where there is none, `make(folder)` fills one. The folder is the same one when a killed run is started again,
        so `make` can go on from what it finds there; what lies in its `scratch/` does not become part of the entry.
        Another run that makes the same entry is waited for, and its result taken.
        """
        if self.has(key):
            return self.path(key), True
        with self._lock(key, what):
            if self.has(key):
                return self.path(key), True
            shutil.rmtree(self.path(key), ignore_errors=True)
            work = self.root / "partial" / key
            work.mkdir(parents=True, exist_ok=True)
            make(work)
            shutil.rmtree(work / "scratch", ignore_errors=True)
            _seal(work, key, what)
            work.replace(self.path(key))
            fsync(self.root)
            self._verified.add(key)
        return self.path(key), False

    def job(self, folder: Path | None = None) -> Job | None:
        """This process's use of the store, for the run in `folder`; None where the store cannot be written to."""
        if self._job is None and self.root.is_dir():
            with suppress(OSError):
                self._job = Job(self.root)
                weakref.finalize(self, self._job.end)  # also when the process ends
        if self._job and folder:
            self._job.note(f"folder {folder.absolute()}")
        return self._job

    @contextmanager
    def temporary(self) -> Iterator[None]:
        """Temporary files lie in the store meanwhile, where the next run removes those of a killed one."""
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


def entry_lock(root: Path, key: str) -> FileLock:
    """The lock of whoever makes an entry or removes it."""
    folder = root / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{key}.lock")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """`{key, what, files: {name: {bytes, sha256}}}` of an entry, None where it is damaged.

    A manifest counts as it was written, to the byte: its last field is a digest of the others. That of an entry of an
    earlier version has neither key nor digest.
    """
    try:
        text = (folder / MANIFEST).read_text()
        told = json.loads(text)
        if not all({"bytes", "sha256"} <= set(expected) for expected in told["files"].values()):
            return None
        if set(told) == {"what", "files"}:
            return {"key": folder.name, **told}
        return told if text == manifest_text(told["key"], told["what"], told["files"]) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def damage_of(folder: Path) -> str | None:
    """The first thing that is wrong with an entry."""
    told = read_manifest(folder)
    if told is None:
        return f"{MANIFEST} cannot be read"
    if told["key"] != folder.name:
        return f"it is the entry {told['key']}"
    for name, expected in told["files"].items():
        path = folder / name
        try:
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != expected["bytes"] or file_digest(path) != expected["sha256"]:
                return f"{name} has changed"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
    return None


def manifest_text(key: str, what: str, files: dict[str, Any]) -> str:
    """The text of an entry's manifest: its last field is a digest of the others."""
    body = {"key": key, "what": what, "files": files}
    return json.dumps({**body, "sha256": key_of(**body)}, indent=1)


def _seal(folder: Path, key: str, what: str) -> None:
    for aside in folder.rglob(".*.partial"):  # of a killed run
        aside.unlink()
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST):
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        fsync(path)
    for path in folder.rglob("*"):
        if path.is_dir():
            fsync(path)
    write_atomic(folder / MANIFEST, manifest_text(key, what, files))
