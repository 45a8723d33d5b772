"""Digests of files, remembered by (path, size, time of change), so that a second look reads no image."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from compress.atomic import write_atomic
from compress.errors import CompressError
from compress.hashing import file_digest, key_of
from compress.progress import say, task

THREADS = min(8, os.cpu_count() or 1)
BLOCK = 256
Known = dict[str, list[int | str]]


def digests(files: Sequence[Path], cache: Path | None, what: str) -> list[str]:
    """SHA-256 of each file, in the order of `files`.

    Raises:
        CompressError: a file cannot be read.
    """
    known = _load(cache)
    stamps = [_stamp(file) for file in files]
    names = [os.path.abspath(file) for file in files]  # noqa: PTH100 - resolve() would follow links
    new = [row for row, name in enumerate(names) if known.get(name, [])[:2] != stamps[row]]
    if new:
        with task(f"{what}: hashing", len(new)) as advance, ThreadPoolExecutor(THREADS) as pool:
            for start in range(0, len(new), BLOCK):
                rows = new[start : start + BLOCK]
                for row, digest in zip(rows, pool.map(_digest, [files[row] for row in rows]), strict=True):
                    known[names[row]] = [*stamps[row], digest]
                advance(len(rows))
        _save(cache, known)
    return [str(known[name][2]) for name in names]


def _stamp(file: Path) -> list[int | str]:
    try:
        status = file.stat()
    except OSError as error:
        raise CompressError(f"{file} cannot be read: {error.strerror}") from error
    return [status.st_size, status.st_mtime_ns]


def _digest(file: Path) -> str:
    try:
        return file_digest(file)
    except OSError as error:
        raise CompressError(f"{file} cannot be read: {error.strerror}") from error


def _load(cache: Path | None) -> Known:
    """What is remembered; a damaged or missing cache is an empty one, since all of it can be found out again."""
    if cache is None or not cache.exists():
        return {}
    try:
        told = json.loads(cache.read_text())
        known = told["files"]
        if told["sha256"] != key_of(files=known):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        say(f"data: {cache} is damaged; the images are hashed again")
        return {}
    return known  # type: ignore[no-any-return]


def _save(cache: Path | None, known: Known) -> None:
    if cache is None:
        return
    with suppress(OSError):  # a read-only store costs time on the next call, not the run
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(cache, json.dumps({"files": known, "sha256": key_of(files=known)}))
