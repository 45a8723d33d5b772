"""The store: what stages made, under a key of everything that determined it.

An entry is a folder that was written aside, hashed, fsynced and renamed, so that it is there whole or not at all. What
a killed run was making stays under `partial/` and is gone on with.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from compress.hashing import file_digest
from compress.progress import say

MANIFEST = "entry.json"


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write a file aside, fsync it and rename it: readers see the old one or the new one, never a part."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with aside.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    _fsync(path.parent)


class Store:
    """Entries by key below one folder, which several runs may share at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._verified: set[str] = set()

    def path(self, key: str) -> Path:
        return self.root / key

    def has(self, key: str) -> bool:
        """Whether an entry is there whole; a damaged one is said and counts as absent."""
        if key in self._verified:
            return True
        if not self.path(key).is_dir():
            return False
        damage = _damage(self.path(key))
        if damage:
            say(f"store: {self.path(key)} is damaged ({damage}) and is made again")
            return False
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
            _seal(work, what)
            work.replace(self.path(key))
            _fsync(self.root)
            self._verified.add(key)
        return self.path(key), False

    @contextmanager
    def _lock(self, key: str, what: str) -> Iterator[None]:
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"store: another run is making {what}; waiting for it")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def _seal(folder: Path, what: str) -> None:
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST):
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        _fsync(path)
    write_atomic(folder / MANIFEST, json.dumps({"what": what, "files": files}, indent=1))
    for path in folder.rglob("*"):
        if path.is_dir():
            _fsync(path)


def _damage(folder: Path) -> str | None:
    try:
        listed = json.loads((folder / MANIFEST).read_text())["files"]
        files = {name: (told["bytes"], told["sha256"]) for name, told in listed.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{MANIFEST} cannot be read"
    for name, (size, digest) in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size or file_digest(path) != digest:
            return f"{name} has changed"
    return None


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
