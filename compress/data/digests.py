"""Digests of images; those of files are cached by (path, size, modification time)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from compress.data.lazy_shards import present, stamp
from compress.data.source import Images
from compress.utils.console import task
from compress.utils.errors import CompressError
from compress.utils.hashing import file_digest
from compress.utils.json_cache import load_cache, save_cache
from compress.utils.system import cores

THREADS = min(8, cores())
BLOCK = 256
Known = dict[str, list[int | str]]


def digests(files: Sequence[Path], cache: Path | None, what: str) -> list[str]:
    """Compute the SHA-256 of each file, in the order of `files`, and keep them in the JSON file `cache`.

    Raises:
        CompressError: a file cannot be read.
    """
    known: Known = load_cache(cache, "files", "the images are hashed again")
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
        save_cache(cache, "files", known)
    return [str(known[name][2]) for name in names]


def pixel_digests(images: Images, advance: Callable[..., None]) -> Iterator[bytes]:
    """Compute the SHA-256 of the pixels of each image."""
    for start in range(0, len(images), BLOCK):
        block = np.ascontiguousarray(images[start : start + BLOCK])
        for pixels in block:
            yield hashlib.sha256(pixels).digest()
        advance(len(block))


def image_digest(image: Path | bytes) -> bytes:
    """Compute the SHA-256 of an image file, or of its content.

    Raises:
        CompressError: the file cannot be read.
    """
    return hashlib.sha256(image).digest() if isinstance(image, bytes) else bytes.fromhex(_digest(image))


def _stamp(file: Path) -> list[int | str]:
    try:
        return list(stamp(file))
    except OSError as error:
        raise CompressError(f"{file} cannot be read: {error.strerror}") from error


def _digest(file: Path) -> str:
    try:
        return file_digest(present(file))
    except OSError as error:
        raise CompressError(f"{file} cannot be read: {error.strerror}") from error
