"""What the store needs of a file system, and ways around what some lack.

Network shares, FUSE and the folders that virtual machines and containers share with their host do not all have memory
maps, or renames of files that are open.
"""

from __future__ import annotations

import errno
import mmap
import shutil
from contextlib import suppress
from pathlib import Path

from compress.store.manifest import MANIFEST, find_damage
from compress.utils.atomic import fsync, partial_path, write_atomic
from compress.utils.copying import copy_tree
from compress.utils.errors import CompressError

NOT_SUPPORTED = frozenset({errno.ENODEV, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL})
RENAME_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EBUSY, errno.ETXTBSY, errno.ENOTEMPTY, errno.EEXIST})
"""How file systems refuse to rename a folder in which files are open, or onto one whose deleted files still are."""
REMEDY = "choose a folder on a local disk with --runs"


def require_maps(folder: Path) -> None:
    """Refuse a folder whose files cannot be mapped into memory; one that is read-only is not examined.

    Raises:
        CompressError: its file system has no memory maps.
    """
    path = partial_path(folder / "map")
    try:
        path.write_bytes(bytes(mmap.PAGESIZE))
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0):
            pass
    except OSError as error:
        if error.errno in NOT_SUPPORTED:
            problem = f"its file system cannot map files into memory ({error.strerror})"
            raise CompressError(f"{folder}: {problem}; {REMEDY}") from error
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def publish(partial: Path, entry: Path) -> None:
    """Turn a sealed folder into an entry: by a rename, or where that is refused by a copy, its manifest last.

    An entry that is there already stays as it is: another process, which had taken over the lease, was faster.
    """
    try:
        partial.replace(entry)
    except OSError as error:
        if error.errno not in RENAME_REFUSED:
            raise
        if entry.is_dir() and find_damage(entry) is None:
            shutil.rmtree(partial, ignore_errors=True)
            return
        try:
            _copy(partial, entry)
        except OSError as failed:
            raise (error if failed.errno in RENAME_REFUSED else failed) from None
    fsync(entry.parent)


def _copy(partial: Path, entry: Path) -> None:
    (entry / MANIFEST).unlink(missing_ok=True)
    copy_tree(partial, entry, leave_out=[MANIFEST])
    for path in entry.rglob("*"):
        fsync(path)
    write_atomic(entry / MANIFEST, (partial / MANIFEST).read_bytes())
    shutil.rmtree(partial, ignore_errors=True)
