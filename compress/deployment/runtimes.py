"""The table of runtimes, and what each of them must offer.

A new runtime is a new file beside this one, with the names of `Runtime` at its top level, and one line in `RUNTIMES`.
One with devices has `load` and `coverage` that take a `device`, and `lacks`, which says what it takes to have one.
Importing these files is cheap: the runtimes themselves are imported where they are used.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from compress.deployment.providers import on_device
from compress.registry import RUNTIMES
from compress.utils.errors import CompressError, UsageError, first_line

if TYPE_CHECKING:
    import numpy as np

    from compress.deployment.coverage import Coverage
    from compress.deployment.export import Source

# How the loader says that memory is short; where files may not be run, a reason follows.
NO_ROOM = "failed to map segment from shared object"
Runner = Callable[["np.ndarray[Any, Any]"], "np.ndarray[Any, Any]"]
"""Images float32 `[b, 3, r, r]`, normalised, to logits float32 `[b, classes]`."""


class Runtime(Protocol):
    """A program that runs artifacts.

    Attributes:
        NAME: Its name in recipes and reports.
        FORMAT: Its file format; runtimes of one format share a file.
        READS: Endings of the files that it loads, its own format's first.
        ENGINE: The package that runs a file; nothing else is needed where artifacts are only run.
        PACKAGES: What must be importable to build, load and run.
        PROGRAMS: Commands that building takes besides.
        ADD: The command that adds them.
        QUANTIZED: Methods of quantization whose variants it takes.
        PORTABLE: Whether a file runs on other processors of its kind than the one that it was built on.

    A runtime whose files are written and checked here but run elsewhere also has `ELSEWHERE`: where, in words. Its
    `load` and `coverage` raise what `not_run_here` gives. One that takes quantized networks of one `target` only has
    that one's name in `TARGET`.
    """

    NAME: str
    FORMAT: str
    READS: tuple[str, ...]
    ENGINE: str
    PACKAGES: tuple[str, ...]
    PROGRAMS: tuple[str, ...]
    ADD: str
    QUANTIZED: tuple[str, ...]
    PORTABLE: bool

    def build(self, source: Source, folder: Path) -> Path:
        """Write the artifact into `folder` and return the file to load."""

    def load(self, path: Path, threads: int | None = None) -> Runner:
        """Make an artifact ready to run on `threads` threads, without them on all cores.

        Raises:
            CompressError: the file cannot be read.
        """

    def coverage(self, path: Path) -> Coverage:
        """What this runtime really runs in integer, of its own executed graph."""


def find_runtime(name: str) -> Runtime:
    """A runtime by name.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in RUNTIMES:
        raise UsageError(f"there is no runtime {name!r}; there are {', '.join(RUNTIMES)}")
    module, _, device = RUNTIMES[name].partition(":")
    loaded = importlib.import_module(module)
    return cast(Runtime, on_device(loaded, name, device) if device else loaded)


def elsewhere(name: str) -> str | None:
    """Where the files of a runtime run, in words; None where they run here."""
    return getattr(find_runtime(name), "ELSEWHERE", None)


def not_run_here(name: str, where: str) -> CompressError:
    """What whoever would run such a file is told."""
    return CompressError(f"files for {name} are written and checked here, not run: they run {where}")


def missing(name: str) -> list[str]:
    """Packages, programs and device of a runtime that are not here; imports nothing heavy but to look for a device."""
    runtime = find_runtime(name)
    packages = [package for package in runtime.PACKAGES if importlib.util.find_spec(package) is None]
    return packages + [program for program in runtime.PROGRAMS if shutil.which(program) is None] or _lacking(runtime)


def _lacking(runtime: Runtime) -> list[str]:
    try:
        return list(getattr(runtime, "lacking", list)())
    except (Exception, SystemExit) as error:  # its package is asked, which may fail at its import with anything
        return [f"{runtime.ENGINE} that can be imported ({type(error).__name__}: {first_line(error)})"]


def broken(packages: Sequence[str]) -> str | None:
    """Which of some installed packages cannot be imported, and why; None where all can. They are imported for it.

    Raises:
        KeyboardInterrupt: a signal came meanwhile, which a package's own code may take for a failed import.
        MemoryError: there is no room for a package's library.
    """
    for package in packages:
        try:
            importlib.import_module(package)
        except (Exception, SystemExit) as error:  # a package may fail at its import with anything
            if isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from error
            if str(error).endswith(NO_ROOM):
                raise MemoryError(first_line(error)) from error
            return f"{package} is broken: {type(error).__name__}: {first_line(error)}"
    return None


def require_whole(name: str) -> None:
    """Import what an installed runtime needs.

    Raises:
        CompressError: a package cannot be imported.
    """
    reason = broken(find_runtime(name).PACKAGES)
    if reason:
        raise CompressError(f"the runtime {name} cannot be used, {reason}; install it again")


def require(name: str) -> Runtime:
    """A runtime by name, with all that it needs.

    Raises:
        UsageError: there is none of this name.
        CompressError: a package or program is not installed; the message has the command that adds it.
    """
    runtime, absent = find_runtime(name), missing(name)
    if absent:
        raise CompressError(f"the runtime {name} needs {', '.join(absent)}: {runtime.ADD}")
    return runtime


def require_engine(name: str) -> Runtime:
    """A runtime by name, with what it needs to run a file that is there already.

    Raises:
        UsageError: there is none of this name.
        CompressError: its package is not installed or its device is not here, with what adds it; it is broken; or its
            files run elsewhere.
    """
    runtime = find_runtime(name)
    if where := elsewhere(name):
        raise not_run_here(name, where)
    if importlib.util.find_spec(runtime.ENGINE) is None:
        raise CompressError(f"the runtime {name} is not installed: pip install {runtime.ENGINE}")
    reason = broken([runtime.ENGINE])
    if reason:
        raise CompressError(f"the runtime {name} cannot be used, {reason}; install it again")
    if absent := _lacking(runtime):
        raise CompressError(f"the runtime {name} needs {', '.join(absent)}: {runtime.ADD}")
    return runtime


def conversion_failure(done: subprocess.CompletedProcess[str], path: Path, program: str) -> str | None:
    """Why a converter, a process that has ended, did not write `path`; None where it did."""
    if done.returncode < 0:
        return f"{program} was ended by signal {-done.returncode} ({signal.strsignal(-done.returncode)})"
    if done.returncode:
        return done.stderr.strip().rpartition("\n")[2][:300] or f"{program} ended with {done.returncode}"
    return None if path.is_file() else f"{program} wrote no file"


def thread_count(threads: int | None) -> int:
    """`threads`, or without them the cores that this process may use."""
    if threads:
        return threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """PyTorch has one number of threads for all that it runs in a process: it is changed for a while alone.

    It also decides the bits of sums, and so is set back even where something inside has changed it again.
    """
    import torch

    before = torch.get_num_threads()
    if before != count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)
