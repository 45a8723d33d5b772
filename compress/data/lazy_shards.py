"""Shards at a URL that are downloaded when they are first read, of which the disk keeps the last ones used.

Files of such shards are named before they are there: whoever opens one calls `present` first, and takes its size and
time from `stamp`. Processes of a machine share what is there; a shard that another one has removed is downloaded again.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from compress.data.remote_shards import DOWNLOADS, RemoteShard, RemoteShards, fetch_shard, is_downloaded, local_files
from compress.store.leases import POLL_S, Lease
from compress.utils.console import say, size_text
from compress.utils.errors import CompressError, UsageError
from compress.utils.json_cache import load_cache, save_cache
from compress.utils.system import free_bytes

T = TypeVar("T")
GB = 10**9
TRIES = 3  # to open a shard that is removed meanwhile
LISTING = "listing"  # section of the file beside a shard
MIN_SHARDS = 48  # of the largest size that must fit: three windows of an epoch's order


class ShardCache:
    """The shards of a data set at a URL, of which about `limit` bytes are kept on the disk."""

    def __init__(self, remote: RemoteShards, limit: int) -> None:
        self.remote, self.limit = remote, limit
        self.folder, self.files = local_files(remote)
        self.numbers = {file: number for number, file in enumerate(self.files)}
        self._coming: dict[Path, int] = {}  # bytes of what this process is downloading
        self._ahead = _Ahead(self)

    def shard(self, file: Path) -> RemoteShard:
        """Return the shard whose file it is."""
        return self.remote.shards[self.numbers[file]]

    def fetch(self, file: Path) -> None:
        """Download a shard unless it is there, and note that it is used.

        Raises:
            CompressError: it is missing or has changed, the service does not answer, or it does not fit on the disk.
        """
        shard = self.shard(file)
        if not is_downloaded(shard, file):
            self._make_room(file, shard.bytes)
            try:
                fetch_shard(self.remote.url, self.folder, shard, file)
            finally:
                self._coming.pop(file, None)
        _touch(file)

    def prefetch(self, files: Iterable[Path]) -> None:
        """Download shards in the background, in order, instead of those that were wanted before."""
        self._ahead.want(files)

    def _make_room(self, file: Path, size: int) -> None:
        """Wait until a shard of `size` bytes fits beside those that are coming, and count it as one of these."""
        lease = Lease(self.folder / "locks" / "room.lease")
        while True:
            lease.wait()
            try:
                if self._remove_old(size):
                    self._coming[file] = size
                    return
            finally:
                lease.release()
            time.sleep(POLL_S)

    def _remove_old(self, size: int) -> bool:
        """Remove the shards used longest ago until `size` bytes fit; False if what is coming takes the room."""
        coming = dict(self._coming)
        there = sorted(used for used in map(_used, self.files) if used and used[2] not in coming)
        total = sum(bytes_ for _, bytes_, _ in there) + sum(coming.values())
        for _, bytes_, old in there:
            if total + size <= self.limit:
                break
            old.unlink(missing_ok=True)
            total -= bytes_
        return total + size <= self.limit or not coming


class _Ahead:
    """Downloads shards in threads that end with the process; those of a forked process are its own."""

    def __init__(self, cache: ShardCache) -> None:
        self._cache, self._lock = cache, threading.Lock()
        self._wanted: list[Path] = []
        self._running = 0

    def want(self, files: Iterable[Path]) -> None:
        """Download these next; those that are there are not removed for them."""
        wanted = []
        for file in files:
            if is_downloaded(self._cache.shard(file), file):
                _touch(file)
            else:
                wanted.append(file)
        with self._lock:
            self._wanted = wanted[::-1]
            for _ in range(min(DOWNLOADS, len(self._wanted)) - self._running):
                self._running += 1
                threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._wanted:
                    self._running -= 1
                    return
                file = self._wanted.pop()
            with suppress(CompressError, OSError):  # whoever reads it is told
                self._cache.fetch(file)


_CACHES: dict[Path, ShardCache] = {}  # by file


def lazy_files(remote: RemoteShards, limit: float) -> list[Path]:
    """Name the files of shards that are downloaded when they are read, and keep at most `limit` GB of them.

    Raises:
        UsageError: `limit` is too small to shuffle shards.
        CompressError: the disk has less.
    """
    allowed, total = int(limit * GB), sum(shard.bytes for shard in remote.shards)
    needed = min(total, MIN_SHARDS * max((shard.bytes for shard in remote.shards), default=0))
    if allowed < needed:
        raise UsageError(
            f"data.cache_gb: {limit:g} is too little: {MIN_SHARDS} shards of {remote.url} take {size_text(needed)}; "
            "give more, or make smaller shards"
        )
    cache = ShardCache(remote, allowed)
    known = _CACHES.get(cache.files[0])
    if known and known.files == cache.files and known.limit == allowed:
        return known.files
    free = free_bytes(cache.folder) + sum(used[1] for used in map(_used, cache.files) if used)
    if free < min(allowed, total):
        raise CompressError(
            f"data: {size_text(min(allowed, total))} of {remote.url} do not fit on the disk, of which "
            f"{size_text(free)} are free in {cache.folder}; lower `cache_gb`, or set XDG_CACHE_HOME to another disk"
        )
    say(f"data: {len(cache.files):,} shards of {remote.url}, {size_text(total)}, are downloaded as they are read")
    _CACHES.update(dict.fromkeys(cache.files, cache))
    return cache.files


def present(file: Path) -> Path:
    """Return a file that is about to be read; a lazy shard is downloaded first."""
    if cache := _CACHES.get(file):
        cache.fetch(file)
    return file


def open_present(file: Path, open_file: Callable[[Path], T]) -> T:
    """Return `open_file(file)`; a lazy shard is downloaded first, again if another process removes it meanwhile."""
    for _ in range(TRIES if file in _CACHES else 0):
        with suppress(FileNotFoundError):
            return open_file(present(file))
    return open_file(present(file))


def remembered(
    file: Path,
    what: str,
    make: Callable[[], T],
    load: Callable[[Any], T],
    dump: Callable[[T], Any] = lambda made: made,
) -> T:
    """Return `make()`; that of a lazy shard is kept beside it, so that other processes need not download it.

    Args:
        file: The shard.
        what: What is made of it; a name among others of the shard.
        make: Makes it.
        load: Returns it from values of JSON.
        dump: Returns it as values of JSON.
    """
    if file not in _CACHES:
        return make()
    place = file.with_name(f"{file.name}.json")
    known = load_cache(place, LISTING, "the shard is listed again")
    if what in known:
        return load(known[what])
    made = make()
    save_cache(place, LISTING, {what: dump(made)})
    return made


def prefetch(files: Sequence[Path]) -> None:
    """Download lazy shards in the background."""
    if files and (cache := _CACHES.get(files[0])):
        cache.prefetch(files)


def stamp(file: Path) -> tuple[int, int]:
    """Return size and time of the last change, in nanoseconds, of a file; a lazy shard need not be there.

    Raises:
        OSError: the file is not there.
    """
    if cache := _CACHES.get(file):
        return cache.shard(file).bytes, 0  # its version is in its path
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _touch(file: Path) -> None:
    """Note that a file is used."""
    with suppress(OSError):  # removed by another process
        os.utime(file, ns=(time.time_ns(), file.stat().st_mtime_ns))


def _used(file: Path) -> tuple[int, int, Path] | None:
    """Return time of the last use, bytes and name of a file; None if it is not there."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_atime_ns, status.st_size, file
