"""Atomic file writes: a file is complete or absent, even after a crash or a power cut."""

from __future__ import annotations

import errno
import glob
import os
import secrets
import time
from pathlib import Path

from compress.utils.processes import host_name, is_alive, owner_name

CANNOT_FLUSH = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF})
OPEN_ELSEWHERE = frozenset({errno.EACCES, errno.EPERM, errno.EBUSY, errno.ETXTBSY})
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


def remove_partials(path: Path) -> None:
    """Remove files named by `partial_path` that processes of this machine left for `path` when they were killed."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*.*.*.partial"):
        *_, process, _, _ = partial.name.split(".")
        owner = owner_name(host_name(), int(process)) if process.isdecimal() else ""
        if owner and f".{owner}." in partial.name and not is_alive(int(process)):
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
