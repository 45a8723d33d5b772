"""Faults that campaigns put in on purpose, and conditions that machines put runs under."""

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
    """Write into `report` each rename of a file into a run or a store that was not fsynced before; plant a fault."""
    synced: set[int] = set()
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def watched_replace(source: Any, target: Any, **more: Any) -> None:
        path = Path(source)
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        left = [file for file in files if file.stat().st_ino not in synced]
        if left and "runs" in path.parts and not str(target).endswith(".partial"):
            with report.open("a") as file:
                file.write(f"{left[0]} renamed to {target} without fsync\n")
        replace(source, target, **more)

    os.fsync, os.replace = watched_fsync, watched_replace
    if plant:
        CRASH[plant]()


def renames_without_fsync(report: Path) -> list[str]:
    with suppress(FileNotFoundError):
        return sorted(set(report.read_text().splitlines()))
    return []


def skip_fsync() -> None:
    """Files are renamed without having been fsynced."""
    from compress.store import store
    from compress.utils import atomic

    atomic.os = type("os", (), {**vars(os), "fsync": staticmethod(lambda descriptor: None)})  # type: ignore[attr-defined]
    store.fsync = lambda path: None  # type: ignore[attr-defined]


def skip_rename() -> None:
    """Entries are made in their last place, and taken to be whole when they are there."""
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


def limit_memory(more: int) -> None:
    """No more than so many bytes of address space beyond what is taken now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def limit_files(size: int) -> None:
    """No file may have more bytes: the system's way to a full disk where none can be mounted."""
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def set_clock_back() -> None:
    """Python's clock goes a year behind; the system's, which files are stamped by, goes on."""
    from compress.pipeline import runner

    class Behind(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) - timedelta(days=365)

    real = time.time
    time.time = lambda: real() - 365 * 86400
    runner.datetime = Behind  # type: ignore[attr-defined]


def unchecked_entries() -> None:
    """Entries are read without a look at their digests."""
    from compress.pipeline import cleaning, store

    store.damage_of = lambda folder: None  # type: ignore[assignment]
    cleaning.damage_of = lambda folder: None  # type: ignore[assignment]


def unchecked_runs() -> None:
    """Files of runs and artifacts are read without a look at their digests."""
    from compress.utils import checksums as sums

    sums.damages = lambda folder, names=None: []  # type: ignore[assignment]


DAMAGE = {"unchecked-entries": unchecked_entries, "unchecked-runs": unchecked_runs}


def restore_from(store: Path, but: tuple[str, ...] = ()) -> None:
    """What is to be made is copied from another store that has it, but for stages of some kinds."""
    from compress.benchmark import latency
    from compress.data import prepared
    from compress.recipe.stage import stage_sections
    from compress.stages.kind import StageKind

    def copy(key: str, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(store / key, folder)

    load = StageKind.load_maker

    def load_copier(self: StageKind) -> Any:
        return load(self) if self.kind in but else lambda context, planned, folder: copy(planned.key, folder)

    StageKind.load_maker = load_copier  # type: ignore[method-assign]
    assert set(but) <= set(stage_sections())
    latency.benchmark_latency = lambda context, folder: copy(folder.name, folder)  # type: ignore[assignment]
    prepared._decode = lambda settings, seed, folder: copy(folder.name, folder)  # type: ignore[assignment]


def die_in_fit(epochs: int = 2) -> None:
    """The process is killed when the distillation has stored the state of so many epochs."""
    import signal

    from compress.training.callbacks import EpochCheckpoint

    keep, count = EpochCheckpoint.on_train_epoch_end, 0

    def keep_and_die(self: Any, trainer: Any, module: Any) -> None:
        nonlocal count
        keep(self, trainer, module)
        count += module.teacher is not None
        if count == epochs:
            os.kill(os.getpid(), signal.SIGKILL)

    EpochCheckpoint.on_train_epoch_end = keep_and_die  # type: ignore[method-assign]


def small_blocks() -> None:
    from compress.training import teacher_cache as embeddings

    embeddings.BLOCK = 32  # type: ignore[misc]


def die_in_embedding() -> None:
    """The process is killed when two blocks of a view's embeddings are done."""
    import signal

    from compress.training import teacher_cache as embeddings

    small_blocks()
    mark = embeddings._mark

    def mark_and_die(path: Path, blocks: list[str]) -> None:
        mark(path, blocks)
        if len(blocks) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    embeddings._mark = mark_and_die
