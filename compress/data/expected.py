"""What decoding the images of a source takes, known before anything is written."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from compress.data.listing import Listing, list_images
from compress.data.originals import stored_decoder
from compress.data.parallel import in_blocks
from compress.recipe.data import FileData
from compress.utils.console import duration, size_text
from compress.utils.errors import CompressError
from compress.utils.system import free_bytes

TIMED = 64  # images that are decoded to time it
AMONG = 4096  # first images of which these are: further ones of a compressed tar take long to reach
COPIES = 2  # of the pixels on the disk, while they are decoded


def expected_line(settings: FileData, store: Path) -> str:
    """Describe what the images take, on the disk of `store` and in seconds of decoding, which a few of them show."""
    listing = list_images(settings)
    images = f"data: {_count(listing):,} images"
    if settings.images == "files":
        return f"{images} stay in their files; decoding each once takes about {duration(_seconds(settings, listing))}"
    decoding = f"about {duration(_seconds(settings, listing))} to decode"
    return f"{images}, {decoding}; {_needed(settings, listing, store)}{_remedy(settings, listing, store)}"


def refuse_full_disk(settings: FileData, store: Path) -> None:
    """Raise a `CompressError` if the decoded images do not fit on the disk of `store`."""
    listing = list_images(settings)
    if remedy := _remedy(settings, listing, store):
        raise CompressError(f"data: {_count(listing):,} images do not fit: {_needed(settings, listing, store)}{remedy}")


def decoding_bytes(images: int, resolution: int) -> int:
    """Return the bytes on the disk that images take while they are decoded to pixels."""
    return COPIES * 3 * resolution**2 * images


def _needed(settings: FileData, listing: Listing, store: Path) -> str:
    size, side = decoding_bytes(_count(listing), settings.resolution), settings.resolution
    return (
        f"at {side} x {side} pixels they take {size_text(size // COPIES)} in {store}, and {size_text(size)} while they "
        f"are decoded, of {size_text(free_bytes(store))} that are free"
    )


def _remedy(settings: FileData, listing: Listing, store: Path) -> str:
    fits = decoding_bytes(_count(listing), settings.resolution) <= free_bytes(store)
    return "" if fits else "; set `images: files` in data, which decodes batches when they are needed"


def _count(listing: Listing) -> int:
    return sum(part.count for part in listing.parts.values())


def _seconds(settings: FileData, listing: Listing) -> float:
    """Time the decoding of a few images, and return the seconds that all take."""
    part = listing.parts["train"]
    rows = np.unique(np.linspace(0, min(part.count, AMONG) - 1, TIMED).astype(np.int64))
    read = stored_decoder(settings, settings.resolution)
    started = time.monotonic()
    for _ in in_blocks(part.read(rows), read):
        pass
    return (time.monotonic() - started) / len(rows) * _count(listing)
