"""Atomic file writes: a file is complete or absent, even after a crash or a power cut."""

from __future__ import annotations

import errno
import glob
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compress.utils.processes import host_name, is_alive, owner_name

CANNOT_FLUSH = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF})
OPEN_ELSEWHERE = frozenset({errno.EACCES, errno.EPERM, errno.EBUSY, errno.ETXTBSY})
CONTENT = "content"  # what a folder that is there is filled by, while it is made
ATTEMPTS, PAUSE_S = 10, 0.05  # to rename over a file that is open elsewhere


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write to a temporary file beside `path`, fsync it and rename it: readers see the old file or the new one.

    Temporary files that killed processes of this machine left for the same path are removed.
    """
    remove_partials(path)
    partial = partial_path(path)
    try:
        with partial.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        _replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    fsync(path.parent)


def partial_path(path: Path) -> Path:
    """Return a new name beside `path` for a file that becomes it: `.<name>.<host>.<pid>.<random>.partial`."""
    return path.with_name(f".{path.name}.{owner_name(host_name(), os.getpid())}.{secrets.token_hex(4)}.partial")


@contextmanager
def folder_as_a_whole(folder: Path) -> Iterator[Path]:
    """Return a folder to fill, which becomes `folder`, absent or empty before; on failure it is deleted.

    One that is there stays, since it may be the current one or a mount: the new one is made in it, and its content
    moved up. What killed processes of this machine left for the same folder is removed.
    """
    remove_partials(folder)
    if folder.is_dir():
        remove_partials(folder / CONTENT)
    place = folder / CONTENT if folder.is_dir() else folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(place)
    partial.mkdir()
    try:
        yield partial
        if place == folder:
            partial.rename(folder)
        else:
            for child in sorted(partial.iterdir()):
                child.rename(folder / child.name)
            partial.rmdir()
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def replace_folder(new: Path, folder: Path) -> None:
    """Rename `new` to `folder` of the same parent or file system; what is there goes once `new` has taken its place."""
    remove_partials(folder)
    aside = partial_path(folder)
    if folder.exists():
        folder.rename(aside)
    try:
        new.rename(folder)
    except OSError:
        if aside.exists():
            aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def remove_partials(path: Path) -> None:
    """Remove what is named by `partial_path` and killed processes of this machine left for `path`."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*.*.*.partial"):
        *_, process, _, _ = partial.name.split(".")
        owner = owner_name(host_name(), int(process)) if process.isdecimal() else ""
        if owner and f".{owner}." in partial.name and not is_alive(int(process)):
            if partial.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
            else:
                partial.unlink(missing_ok=True)


def fsync(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk, where the file system can: not all open or flush folders."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_FLUSH and not (error.errno == errno.EACCES and path.is_dir()):
            raise


def _replace(partial: Path, path: Path) -> None:
    """Rename a file over another one; some file systems refuse this while a reader has that one open."""
    for _ in range(ATTEMPTS):
        try:
            partial.replace(path)
            return
        except OSError as error:
            if error.errno not in OPEN_ELSEWHERE:
                raise
            time.sleep(PAUSE_S)
    partial.replace(path)
