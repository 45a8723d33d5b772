"""Leases of jobs on a store: what a running job uses is not deleted, and what a killed job left is removed.

    running/<job>.lock   held while the process lives
    running/<job>.keys   entries that it uses, one per line; `folder PATH` is its run
    running/<job>.tmp/   its temporary files

The system releases a lock when its process ends, in whatever way. The next job finds it free and removes what is left.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import Timeout

from compress.store.file_systems import StoreLock

FOLDER = "running"
GATE = "gate.lock"


@contextmanager
def gate(root: Path) -> Iterator[None]:
    """Hold the lock that a job needs to start using an entry, and `clean` needs to take entries away."""
    (root / "locks").mkdir(exist_ok=True)
    with StoreLock(root / "locks" / GATE):
        yield


class Job:
    """One process's lease on the entries of a store that it uses."""

    def __init__(self, root: Path) -> None:
        folder = root / FOLDER
        folder.mkdir(exist_ok=True)
        self.root = root
        self.process = os.getpid()
        self.base = folder / f"{self.process}-{secrets.token_hex(4)}"
        self._lock = StoreLock(f"{self.base}.lock")
        with gate(root):
            remove_dead(root)
            self._lock.acquire()
            self._keys.touch()

    @property
    def _keys(self) -> Path:
        return self.base.with_suffix(".keys")

    def note(self, line: str) -> None:
        """Add a key or a folder to the lease; from now on it is not deleted."""
        with gate(self.root), self._keys.open("a") as file:
            file.write(f"{line}\n")

    def end(self) -> None:
        """Give up the lease and remove the job's files."""
        if os.getpid() == self.process:  # a forked child has its parent's copy
            _remove(self.base)
            self._lock.release()

    @contextmanager
    def temporary(self) -> Iterator[None]:
        """Put temporary files, also those of libraries and child processes, where they are removed if this one dies."""
        # The compiler's cache outlives the run, so it stays where torch has it.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"torchinductor_{_user()}"))
        folder = self.base.with_suffix(".tmp").absolute()
        folder.mkdir(exist_ok=True)
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
    for path in (root / FOLDER).glob("*.lock"):
        lock = StoreLock(path)
        with suppress(Timeout, OSError):  # it is alive, or another user's
            lock.acquire(timeout=0)
            base = path.with_suffix("")
            for line in _lines(base):
                if line.startswith("folder "):
                    for partial in Path(line.removeprefix("folder ")).glob(".*.partial"):
                        partial.unlink(missing_ok=True)
            _remove(base)
            lock.release()


def keys_in_use(root: Path) -> set[str]:
    """Return the keys that running jobs use. The caller holds the gate."""
    remove_dead(root)
    return {line for path in (root / FOLDER).glob("*.keys") for line in _lines(path.with_suffix(""))}


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
    """Remove the files of a job, the lock last: without it no other job would look for them."""
    shutil.rmtree(base.with_suffix(".tmp"), ignore_errors=True)
    base.with_suffix(".keys").unlink(missing_ok=True)
    base.with_suffix(".lock").unlink(missing_ok=True)
