"""Folders in which entries are being made: `partial/<key>.<host>.<pid>`, each of one process.

What a process left that has ended on this machine is taken over by a rename. What one on another machine left is
copied, and so is what a process left that has only stopped, since both may still write to theirs.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from compress.utils.copying import copy_tree
from compress.utils.processes import is_alive, owner_name

FOLDER = "partial"
COPY = ".copy"  # ending of one that is being copied


def work_folder(root: Path, key: str, host: str, process: int) -> Path:
    """Return the folder in which a process makes an entry."""
    return root / FOLDER / f"{key}.{owner_name(host, process)}"


def open_folder(root: Path, key: str, host: str, process: int) -> Path:
    """Return this process's folder for an entry, with what an earlier one had made of it. The caller has the lease."""
    folder = work_folder(root, key, host, process)
    found = [path for path in left_of(root, key) if path != folder and path.suffix != COPY]
    if not folder.exists() and found:
        newest = max(found, key=_last_change)
        if _has_ended(newest, host):
            newest.replace(folder)
        else:
            _copy(newest, folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _copy(source: Path, folder: Path) -> None:
    """Copy a folder whose process may still write to it; what cannot be copied whole is made from the start."""
    copy = folder.with_name(f"{folder.name}{COPY}")
    shutil.rmtree(copy, ignore_errors=True)
    try:
        copy_tree(source, copy)
    except OSError:  # a file was replaced meanwhile
        shutil.rmtree(copy, ignore_errors=True)
    else:
        copy.replace(folder)


def left_of(root: Path, key: str) -> list[Path]:
    """Return all work folders of an entry."""
    return [path for path in (root / FOLDER).glob(f"{key}*") if key_of_folder(path) == key]


def key_of_folder(path: Path) -> str:
    """Return the key of the entry that a work folder is of."""
    return path.name.split(".", 1)[0]


def remove_left(root: Path, key: str) -> None:
    """Remove all work folders of an entry that has been made."""
    for path in left_of(root, key):
        shutil.rmtree(path, ignore_errors=True)


def _has_ended(folder: Path, host: str) -> bool:
    """Return whether the process whose folder this is ran on this machine and has ended."""
    key, _, owner = folder.name.partition(".")
    if not owner:  # of an earlier version, which had one folder for all
        return True
    process = int(owner.rpartition(".")[2])
    return folder == work_folder(folder.parent.parent, key, host, process) and not is_alive(process)


def _last_change(folder: Path) -> float:
    times = [0.0]
    for path in (folder, *folder.rglob("*")):
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times)
