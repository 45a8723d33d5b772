"""Functions of images in threads, block by block."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

from PIL import Image

from compress.data.digests import BLOCK, THREADS

BLOCK_BYTES = 2**28
Result = TypeVar("Result")


def in_blocks(
    images: Iterator[Path | bytes],
    function: Callable[[Path | bytes], Result],
    advance: Callable[..., None] = lambda count: None,
    threads: int = THREADS,
) -> Iterator[Result]:
    """Map a function over images in threads, block by block, so that at most one is in memory; yields in order."""
    pool = ThreadPoolExecutor(threads) if threads > 1 else nullcontext()
    with pool as started, warnings.catch_warnings():
        # Images with too many pixels are refused anyway.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for block in _blocks(images):
            results = list((started.map if started else map)(function, block))
            advance(len(block))
            yield from results


def _blocks(images: Iterable[Path | bytes]) -> Iterator[list[Path | bytes]]:
    block: list[Path | bytes] = []
    size = 0
    for image in images:
        block.append(image)
        size += len(image) if isinstance(image, bytes) else 0
        if len(block) == BLOCK or size >= BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block
