"""Faults that campaigns plant, and conditions that machines put runs under."""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any


def watch(report: Path, plant: str | None = None) -> None:
    """Log to `report` every rename into a run or a store of a file that was not fsynced; plant a fault."""
    synced: set[int] = set()
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def watched_replace(source: Any, target: Any, **options: Any) -> None:
        path = Path(source)
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        unsynced = [file for file in files if file.stat().st_ino not in synced]
        if unsynced and "runs" in path.parts and not str(target).endswith(".partial"):
            with report.open("a") as file:
                file.write(f"{unsynced[0]} renamed to {target} without fsync\n")
        replace(source, target, **options)

    os.fsync, os.replace = watched_fsync, watched_replace
    if plant:
        CRASH[plant]()


def renames_without_fsync(report: Path) -> list[str]:
    with suppress(FileNotFoundError):
        return sorted(set(report.read_text().splitlines()))
    return []


def skip_fsync() -> None:
    """Rename files without having fsynced them."""
    from compress.utils import atomic

    atomic.os = type("os", (), {**vars(os), "fsync": staticmethod(lambda descriptor: None)})  # type: ignore[attr-defined]


def skip_rename() -> None:
    """Make entries in their final place, and take whatever is there for complete."""
    from compress.store.store import Store

    def get(self: Store, key: str, what: str, make: Callable[[Path], None]) -> tuple[Path, bool]:
        folder = self.path(key)
        if folder.is_dir():
            return folder, True
        folder.mkdir()
        (folder / "entry.json").write_text('{"files": {}}')
        make(folder)
        shutil.rmtree(folder / "scratch", ignore_errors=True)
        return folder, False

    Store.get = get  # type: ignore[method-assign]
    Store.has = lambda self, key: self.path(key).is_dir()  # type: ignore[method-assign]


CRASH = {"skip-fsync": skip_fsync, "skip-rename": skip_rename}


def limit_memory(extra: int) -> None:
    """Allow `extra` bytes of address space beyond what is in use now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + extra
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def limit_files(size: int) -> None:
    """Limit the bytes of every file, in place of a full disk where none can be mounted."""
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def set_clock_back() -> None:
    """Set Python's clock back by a year, but not the system's, which stamps files."""
    from compress.pipeline import runner

    class Behind(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) - timedelta(days=365)

    real = time.time
    time.time = lambda: real() - 365 * 86400
    runner.datetime = Behind  # type: ignore[attr-defined]


def unchecked_entries() -> None:
    """Read entries without verifying their digests."""
    from compress.store import gc, store

    store.find_damage = lambda folder: None  # type: ignore[attr-defined]
    gc.find_damage = lambda folder: None  # type: ignore[attr-defined]


def unchecked_runs() -> None:
    """Read files of runs and artifacts without verifying their digests."""
    from compress.utils import checksums

    checksums._changes = lambda folder, sums, names: []  # type: ignore[assignment]


DAMAGE = {"unchecked-entries": unchecked_entries, "unchecked-runs": unchecked_runs}


def restore_from(store: Path, but: tuple[str, ...] = ()) -> None:
    """Copy entries from another store in place of making them, except those whose description has a word of `but`."""
    from compress.store.store import Store

    get = Store.get

    def restore(self: Store, key: str, what: str, make: Callable[[Path], None]) -> tuple[Path, bool]:
        def copy(folder: Path) -> None:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(store / key, folder)

        known = (store / key).is_dir() and not any(word in what for word in but)
        return get(self, key, what, copy if known else make)

    Store.get = restore  # type: ignore[method-assign]


def die_in_fit(epochs: int = 2) -> None:
    """Kill the process once the distillation has stored the state of this many epochs."""
    import signal

    from compress.recipe.fit import Distillation
    from compress.training.callbacks import EpochCheckpoint

    keep, count = EpochCheckpoint.on_train_epoch_end, 0

    def keep_and_die(self: Any, trainer: Any, module: Any) -> None:
        nonlocal count
        keep(self, trainer, module)
        count += isinstance(module.settings, Distillation)
        if count == epochs:
            os.kill(os.getpid(), signal.SIGKILL)

    EpochCheckpoint.on_train_epoch_end = keep_and_die  # type: ignore[method-assign]


def small_blocks() -> None:
    """Make blocks of embeddings so small that a view has several."""
    from compress.training import teacher_cache

    teacher_cache.BLOCK = 32  # type: ignore[misc]


def die_in_embedding() -> None:
    """Kill the process once two blocks of a view's embeddings are done."""
    import signal

    from compress.training import teacher_cache

    small_blocks()
    mark = teacher_cache._mark

    def mark_and_die(path: Path, blocks: list[str]) -> None:
        mark(path, blocks)
        if len(blocks) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    teacher_cache._mark = mark_and_die
