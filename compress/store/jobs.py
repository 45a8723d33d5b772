"""Jobs on a store: what a running one uses is not deleted, and what a killed one left is removed.

    running/<job>.lease   held while the process lives
    running/<job>.keys    entries that it uses, one per line; `folder PATH` is its run
    running/<job>.tmp/    its temporary files

The next job on the same machine finds the lease of a killed one free and removes what is left; jobs on other machines
do so a day after its last sign of life. A stopped process keeps what it uses.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.util import get_temp_dir
from pathlib import Path

from compress.store.leases import GATE, Lease, entry_lease, gate

FOLDER = "running"
DAY_S = 86_400.0
RESERVED = "reserved "  # before the key of an entry that a job will use


class Job:
    """One process and the entries of a store that it uses."""

    def __init__(self, root: Path) -> None:
        folder = root / FOLDER
        folder.mkdir(exist_ok=True)
        self.root = root
        self.process = os.getpid()
        self.base = folder / f"{self.process}-{secrets.token_hex(4)}"
        self._lease = Lease(self.base.with_suffix(".lease"), DAY_S)
        with gate(root):
            remove_dead(root)
            self._lease.claim()
            self._keys.touch()

    @property
    def _keys(self) -> Path:
        return self.base.with_suffix(".keys")

    def note(self, *lines: str) -> None:
        """Add keys or a folder to what it uses; from now on they are not deleted."""
        with gate(self.root), self._keys.open("a") as file:
            file.writelines(f"{line}\n" for line in lines)

    def folder(self) -> Path:
        """Return the folder of the job's temporary files."""
        folder = self.base.with_suffix(".tmp").absolute()
        folder.mkdir(exist_ok=True)
        return folder

    def end(self) -> None:
        """Remove the job's files, its lease last: without it no other job would look for them."""
        if os.getpid() == self.process:  # a forked child has its parent's copy
            _remove(self.base)
            self._lease.release()

    @contextmanager
    def temporary(self) -> Iterator[None]:
        """Put temporary files, also those of libraries and child processes, where they are removed if this one dies."""
        # Below a long path, the sockets by which workers share tensors would have longer names than the system takes.
        # Workers inherit this folder, and it is removed at exit.
        get_temp_dir()
        # The compiler's cache outlives the run, so it stays where torch has it.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"torchinductor_{_user()}"))
        folder = self.folder()
        before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
        tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
        try:
            yield
        finally:
            tempfile.tempdir = before
            os.environ.pop("TMPDIR")
            if variable is not None:
                os.environ["TMPDIR"] = variable


def remove_dead(root: Path) -> None:
    """Remove what killed jobs have left. The caller holds the gate."""
    for path in (root / FOLDER).glob("*.lease"):
        with suppress(OSError):  # another user's, or gone
            lease = Lease(path, DAY_S)
            if not lease.claim() and (_is_here(root, lease) or _age(root, path) < DAY_S):
                continue
            base = path.with_suffix("")
            for line in _lines(base):
                if line.startswith("folder "):
                    for partial in Path(line.removeprefix("folder ")).glob(".*.partial"):
                        partial.unlink(missing_ok=True)
            _remove(base)
            path.unlink(missing_ok=True)
            lease.release()


def _is_here(root: Path, lease: Lease) -> bool:
    """Return whether the holder of a lease runs on this machine, as the holder of the gate does."""
    here, there = entry_lease(root, GATE).holder, lease.holder
    return here is not None and there is not None and here[0] == there[0]


def _age(root: Path, path: Path) -> float:
    """Return the seconds since a file was touched, by the clock of its file system: the gate has just been touched."""
    return entry_lease(root, GATE).path.stat().st_mtime - path.stat().st_mtime


def keys_in_use(root: Path, *, by_others: bool = False) -> set[str]:
    """Return the keys that running jobs use or have reserved, or those that other processes use.

    The caller holds the gate.
    """
    remove_dead(root)
    bases = [path.with_suffix("") for path in (root / FOLDER).glob("*.keys")]
    if by_others:
        own = entry_lease(root, GATE).holder
        bases = [base for base in bases if Lease(base.with_suffix(".lease")).holder != own]
    found = {line for base in bases for line in _lines(base)}
    if by_others:
        return {line for line in found if not line.startswith(RESERVED)}
    return {line.removeprefix(RESERVED) for line in found}


def _user() -> str:
    """Return the user's name, or the number of one without an account; torch does not do without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"uid_{os.getuid()}"  # as torch has it


def _lines(base: Path) -> list[str]:
    try:
        return base.with_suffix(".keys").read_text().splitlines()
    except OSError:
        return []


def _remove(base: Path) -> None:
    """Remove the files of a job, except its lease."""
    shutil.rmtree(base.with_suffix(".tmp"), ignore_errors=True)
    base.with_suffix(".keys").unlink(missing_ok=True)
