"""Teacher embeddings on all devices of a machine: each makes other shards, with a teacher of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from compress.measurement.device import CPU, exact_float32
from compress.store.store import Store
from compress.utils.console import say, task
from compress.utils.errors import first_line

JOIN_S = 0.5  # between two looks at the threads, in which an interruption is noticed


class Stopped(Exception):
    """Another device has failed, or the process was interrupted."""


@dataclass(frozen=True)
class Part:
    """One shard of one view: a store entry that any process may make, on one device."""

    key: str
    what: str
    make: Callable[[Path, Progress], None]
    images: int
    device: torch.device = CPU


@dataclass
class Progress:
    """Progress of the devices of one machine; each reports its own images."""

    title: str = ""  # of all devices together; empty for one, which has a title for each shard
    _advance: Callable[..., None] = field(default=lambda count: None)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def task(self, title: str, total: int, completed: int) -> Iterator[Callable[..., None]]:
        """Show the progress of a shard: by itself, or within that of all devices."""
        if not self.title:
            with task(title, total, completed) as advance:
                yield advance
            return
        self._count(completed)
        yield self._count

    def check(self) -> None:
        """Raise `Stopped` if another device has failed."""
        if self.stopped.is_set():
            raise Stopped

    def _count(self, images: int) -> None:
        with self._lock:
            self._advance(images)


Shard = tuple[Part, ...]
"""The same shard as each device would make it."""


def offer_shards(store: Store, shards: Sequence[Shard]) -> list[Part]:
    """Make the shards that neither the store has nor another process makes; return those that were made here.

    Raises:
        Exception: what the first device raised that failed; the others stop at their next block.
    """
    several = len(shards) > 1 and len(shards[0]) > 1
    stored = store.existing([shard[0].key for shard in shards]) if several else set[str]()
    left = [shard for shard in shards if shard[0].key not in stored]
    devices = min(len(left), len(left[0])) if left else 0
    if devices < 2:
        return [part for part, *_ in left if _offer(store, part, Progress())]
    store.job()  # made by one thread
    total = sum(shard[0].images for shard in left)
    title = f"teacher embeddings on {devices} devices"
    with task(title, total) as advance, exact_float32(left[0][0].device):  # global, so set before the threads
        return _Devices(store, left, Progress(title, advance)).run(devices)


def _offer(store: Store, part: Part, progress: Progress) -> bool:
    return bool(store.offer(part.key, part.what, lambda folder: part.make(folder, progress)))


class _Devices:
    """Threads that make shards, one per device."""

    def __init__(self, store: Store, shards: Sequence[Shard], progress: Progress) -> None:
        self.store, self.progress, self.made = store, progress, list[Part]()
        self.failure: BaseException | None = None
        self._left, self._lock = iter(shards), threading.Lock()

    def run(self, devices: int) -> list[Part]:
        threads = [threading.Thread(target=self._work, args=(number,), daemon=True) for number in range(devices)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(JOIN_S)
        except BaseException:
            self.progress.stopped.set()
            for thread in threads:  # they compute as long as the settings of torch are theirs
                thread.join()
            raise
        if self.failure is not None:
            raise self.failure
        return self.made

    def _work(self, number: int) -> None:
        while not self.progress.stopped.is_set():
            with self._lock:
                shard = next(self._left, None)
            if shard is None:
                return
            part = shard[number]
            try:
                with suppress(Stopped), _current(part.device):
                    if _offer(self.store, part, self.progress):
                        self.made.append(part)
            except BaseException as error:
                self._fail(part, error)

    def _fail(self, part: Part, error: BaseException) -> None:
        with self._lock:
            if self.failure is None:
                self.failure = error
                say(f"  {part.what} failed on {part.device}: {first_line(error)}; the other devices stop")
        self.progress.stopped.set()


def _current(device: torch.device) -> torch.cuda.device | nullcontext[None]:
    """Make a CUDA device the one on which this thread allocates."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
