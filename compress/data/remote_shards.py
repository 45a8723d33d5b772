"""Shards at a URL: listed there, and downloaded into the user's cache, from where they are read as local files.

    data/<URL>/<version>/<name>   a shard; its folder is the digest of its name, size and ETag there
    data/<URL>/locks/             leases of the processes that download

A shard is written aside and renamed, so it is there whole or not at all. A shard that changes at the URL is another
file in the cache: no process reads half of one and half of the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from queue import Queue
from threading import Event, Lock, Thread
from typing import TypeVar

from compress.data.left_out import LeftOut, Tally, file_kind
from compress.data.manifest import is_manifest, read_manifest
from compress.data.object_names import matching
from compress.data.patterns import fixed_folder, is_pattern, parts_of
from compress.store.leases import POLL_S, Lease
from compress.store.shared import ObjectInfo, SharedFolder
from compress.utils.atomic import fsync, partial_path, remove_partials
from compress.utils.console import say, size_text, task
from compress.utils.errors import CompressError, UsageError
from compress.utils.hashing import file_digest, key_of
from compress.utils.messages import truncate_list
from compress.utils.system import cache_folder, free_bytes
from compress.utils.urls import cache_of, is_url

DOWNLOADS = 4  # shards at a time
MB = 10**6
T = TypeVar("T")


class NoShardsError(UsageError):
    """A URL has no file with the extension of a shard."""


@dataclass(frozen=True)
class RemoteShard:
    """A shard at a URL."""

    name: str  # relative to the URL of its data set
    part: str
    bytes: int
    version: str | None  # its ETag or time there; None where only a SHA-256 is known
    sha256: str | None = None
    images: int | None = None  # as a manifest states it

    @property
    def identity(self) -> str:
        """Digest of what is known of the shard without reading it."""
        return key_of(name=self.name, bytes=self.bytes, version=self.version, sha256=self.sha256)[:16]


@dataclass(frozen=True)
class RemoteShards:
    """The shards of a data set at a URL or in a local manifest, in order."""

    url: str  # of the folder that the names are relative to
    shards: tuple[RemoteShard, ...]
    left_out: tuple[LeftOut, ...] = ()  # other objects in a folder that is read as a whole, by ending

    @cached_property
    def identity(self) -> str:
        """Digest of names, sizes and versions, the same on every machine; also of the URL, unless all have a SHA-256.

        Versions are those of one service: a time of last change is no digest.
        """
        url = None if all(shard.sha256 for shard in self.shards) else self.url
        return key_of(url=url, shards=[astuple(shard) for shard in self.shards])

    @cached_property
    def unversioned(self) -> list[str]:
        """Names of the shards that may change without being listed differently, as only their size is known."""
        remote = is_url(self.url)  # the ETag of a local file is not checked
        return [shard.name for shard in self.shards if not (shard.sha256 or (remote and shard.version))]


@lru_cache(maxsize=8)  # one listing per process, so that all of it sees the same shards
def list_remote(path: str, endings: tuple[str, ...]) -> RemoteShards:
    """List the shards of a URL, which names a shard, a folder, a pattern or a manifest; nothing is downloaded.

    Raises:
        CompressError: the service does not answer, or refuses.
        UsageError: no shard is found, only some of them have a split, their sizes are not stated, or a manifest at a
            URL has shards with neither SHA-256 nor ETag.
    """
    if is_manifest(path):
        listed = (
            RemoteShard(each.file, part, each.bytes, each.etag, each.sha256, each.images)
            for each, part in read_manifest(path)
        )
        remote = RemoteShards(path.rpartition("/")[0], tuple(listed))
        if is_url(path) and remote.unversioned:
            raise UsageError(
                f"data.path: {path}: neither `sha256` nor `etag` of {truncate_list(remote.unversioned)}; write it with "
                "`compress-model manifest`"
            )
        return remote
    url, found, left_out = _find(path, endings)
    if unsized := [each.name for each in found if each.bytes is None]:
        raise UsageError(
            f"data.path: {path}: the service does not state the size of {truncate_list(unsized)}; over HTTP, name the "
            "shards by braces, such as train-{000..007}.tar, or download them and give their local path"
        )
    parts = parts_of([each.name for each in found], path)
    shards = (
        RemoteShard(each.name, part, each.bytes or 0, each.version) for each, part in zip(found, parts, strict=True)
    )
    return RemoteShards(url, tuple(shards), left_out)


def download(remote: RemoteShards) -> list[Path]:
    """Download the shards that the cache lacks, and return all of them as local files.

    Processes that download the same data set at once share the work. A killed download resumes with the shards that it
    lacks.

    Raises:
        CompressError: they do not fit on the disk, a shard is missing or has changed, or the service does not answer.
        UsageError: the service states no version of a shard, so that a changed one would go unnoticed.
    """
    folder, files = local_files(remote)
    missing = [pair for pair in zip(remote.shards, files, strict=True) if not is_downloaded(*pair)]
    if missing:
        size = sum(shard.bytes for shard, _ in missing)
        _check_space(remote.url, folder, len(missing), size)
        source = SharedFolder(remote.url)
        with task(f"downloading {len(missing)} shards, MB", size // MB) as advance:
            done = 0
            for fetched in _in_threads(lambda pair: _fetch(source, folder, *pair), missing):
                advance((done + fetched) // MB - done // MB)
                done += fetched
    return files


def local_files(remote: RemoteShards) -> tuple[Path, list[Path]]:
    """Return the folder of a data set in the user's cache, and the file of each shard, whether it is there or not.

    Raises:
        UsageError: the service states no version of a shard, or the user has no cache.
    """
    if remote.unversioned:
        raise UsageError(
            f"data.path: {remote.url}/: the service states neither ETag nor time of "
            f"{truncate_list(remote.unversioned)}, so changes would go unnoticed; put a manifest beside them, or "
            "download them and give their local path"
        )
    folder = cache_of(remote.url, cache_folder(), "data")
    return folder, [folder / shard.identity / PurePosixPath(shard.name).name for shard in remote.shards]


def fetch_shard(url: str, folder: Path, shard: RemoteShard, file: Path) -> None:
    """Download a shard into its file, unless another process does so first; see `download`."""
    _fetch(SharedFolder(url), folder, shard, file)


def _in_threads(work: Callable[[T], int], items: Sequence[T]) -> Iterator[int]:
    """Yield `work(item)` as each is done; the threads end with the process, so that it can be interrupted."""
    left, results = iter(items), Queue[int | BaseException]()
    stopped, lock = Event(), Lock()

    def loop() -> None:
        while not stopped.is_set():
            with lock:
                item = next(left, None)
            if item is None:
                return
            try:
                results.put(work(item))
            except BaseException as error:
                results.put(error)
                return

    for _ in range(min(DOWNLOADS, len(items))):
        Thread(target=loop, daemon=True).start()
    try:
        for _ in items:
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        stopped.set()


def _find(path: str, endings: tuple[str, ...]) -> tuple[str, list[ObjectInfo], tuple[LeftOut, ...]]:
    """Return the URL of the folder that shards are in, those that a path stands for, in order, and what is left out."""
    scheme, _, rest = path.partition("://")
    place = PurePosixPath(rest)
    if is_pattern(rest):
        fixed = fixed_folder(place)
        if not fixed.parts:
            raise UsageError(f"data.path: {path}: the bucket cannot be a pattern; write its name")
        url, inner = f"{scheme}://{fixed}", str(place.relative_to(fixed))
        return url, matching(url, inner), ()
    if place.name.lower().endswith(endings):
        url = f"{scheme}://{place.parent}"
        return url, matching(url, place.name), ()
    found, tally = [], Tally()
    for each in SharedFolder(path).listing():
        if each.name.lower().endswith(endings):
            found.append(each)
        else:
            tally.add("file", file_kind(PurePosixPath(each.name).name), each.name)
    if not found:
        kinds = " or ".join(endings)
        raise NoShardsError(
            f"data.path: {path}: no file with the extension {kinds} found; check the bucket and the folder"
        )
    return path.rstrip("/"), found, tally.rows()


def is_downloaded(shard: RemoteShard, file: Path) -> bool:
    """Return whether the cache has a shard: it was checked when it was written, and its version is in its path."""
    try:
        return file.stat().st_size == shard.bytes
    except OSError:
        return False


def _check_space(url: str, folder: Path, count: int, size: int) -> None:
    free = free_bytes(folder)
    line = f"{count:,} shards of {url}, {size_text(size)}, of {size_text(free)} that are free in {folder}"
    if size > free:
        raise CompressError(
            f"data: cannot download {line}; free some space, or set XDG_CACHE_HOME to a folder on a larger disk"
        )
    say(f"data: downloading {line}")


def _fetch(source: SharedFolder, folder: Path, shard: RemoteShard, file: Path) -> int:
    """Download a shard, unless another process does so first, and return its size."""
    lease = Lease(folder / "locks" / f"{shard.identity}.lease")
    while not lease.claim():
        if is_downloaded(shard, file):
            return shard.bytes
        time.sleep(POLL_S)
    try:
        if not is_downloaded(shard, file):
            _fetch_alone(source, shard, file)
    finally:
        lease.release()
    return shard.bytes


def _fetch_alone(source: SharedFolder, shard: RemoteShard, file: Path) -> None:
    where = f"{source.url}/{shard.name}"
    before = source.info(shard.name)
    if before is None:
        raise CompressError(f"{where} not found; check the data set, or write its manifest again")
    if before.bytes not in (None, shard.bytes) or shard.version not in (None, before.version):
        raise _changed(where)
    file.parent.mkdir(parents=True, exist_ok=True)
    remove_partials(file)
    aside = partial_path(file)
    try:
        there = source.download(shard.name, aside)
        after = source.info(shard.name)
        if not there or after != before:
            raise _changed(where)
        if aside.stat().st_size != shard.bytes:
            raise CompressError(f"{where}: {aside.stat().st_size:,} of {shard.bytes:,} bytes arrived; run again")
        if shard.sha256 and file_digest(aside) != shard.sha256:
            raise _changed(where)
        fsync(aside)
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)


def _changed(where: str) -> CompressError:
    list_remote.cache_clear()
    return CompressError(
        f"{where} has changed since it was listed: its size, ETag or SHA-256 is another; rerun, or write its manifest "
        "again"
    )
