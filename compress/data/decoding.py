"""From a listing of images to arrays: the part that all sources of image files share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from compress.data.image_io import try_decode
from compress.data.listing import Listing
from compress.data.parallel import in_blocks
from compress.data.source import Contents, Part, Pixels, Raw, Source
from compress.recipe.data import FileData
from compress.utils.console import task
from compress.utils.errors import CompressError, UsageError, printable
from compress.utils.messages import one_line, truncate_list


@dataclass(frozen=True)
class Decoded:
    """A decoded part, and the files that are not images, each with the reason."""

    part: Part
    broken: tuple[str, ...]


def file_source(
    section: type[FileData], about: str, list_images: Callable[[Any], Listing], packages: tuple[str, ...] = ()
) -> Source:
    """Make the source whose images are those that `list_images(settings)` lists; see `Source`."""

    def contents(settings: FileData, cache: Path | None) -> Contents:
        listing = list_images(settings)
        has_test = "test" in listing.parts
        if not has_test and settings.test is None:
            raise UsageError(f"{listing.where}: no test images found; `test: 0.2` in data cuts a fifth off for them")
        _check_names(listing)
        validation, counts = "validation" in listing.parts, tuple(listing.counts("train"))
        return Contents(listing.fingerprint(cache), listing.classes, validation, counts, has_test)

    def read(settings: FileData, scratch: Path) -> Raw:
        return _read(list_images(settings), settings, scratch)

    return Source(section, about, contents, read, list_images, packages)


def _check_names(listing: Listing) -> None:
    for name in listing.classes:
        try:
            name.encode()
        except UnicodeEncodeError as error:  # it could not be written to any file
            raise UsageError(f"{listing.where}: the class name '{one_line(name)}' is not valid text") from error


def _read(listing: Listing, settings: FileData, scratch: Path) -> Raw:
    """Decode all images into arrays below `scratch`."""
    decoded = {name: _decode_part(listing, name, settings, scratch) for name in listing.parts}
    for name, result in decoded.items():
        _check_left(listing, name, result)
    parts = {name: result.part for name, result in decoded.items()}
    skipped = tuple(text for result in decoded.values() for text in result.broken)
    return Raw(listing.classes, **{"test": None, **parts}, skipped=skipped)  # type: ignore[arg-type]


def _decode_part(listing: Listing, name: str, settings: FileData, scratch: Path) -> Decoded:
    listed, side = listing.parts[name], settings.resolution
    kept, broken = [], []
    path = scratch / f"{name}.bin"
    with path.open("wb") as out, task(f"decoding {name}", listed.count) as advance:
        for row, pixels in enumerate(
            in_blocks(listed.read(np.arange(listed.count)), partial(try_decode, side=side), advance)
        ):
            if isinstance(pixels, str):
                broken.append(printable(f"{listed.name(row)} ({pixels})"))
                if settings.broken == "refuse":
                    raise CompressError(
                        f"{listing.where}: {broken[0]} is not a readable image; remove it, or set data.broken to skip"
                    )
            else:
                kept.append(row)
                out.write(pixels.tobytes())
    shape = (len(kept), 3, side, side)
    images: Pixels = np.memmap(path, np.uint8, "r", shape=shape) if kept else np.empty(shape, np.uint8)
    labels = None if listed.labels is None else listed.labels[kept]
    return Decoded(Part(images, labels, np.array(kept, np.int64)), tuple(broken))


def _check_left(listing: Listing, name: str, result: Decoded) -> None:
    labels = result.part.labels
    if labels is None:
        return
    counts = np.bincount(labels, minlength=len(listing.classes))
    lost = [listing.classes[row] for row in np.flatnonzero(counts == 0)]
    if lost:
        raise CompressError(
            f"{listing.where}: {listing.called.get(name, name)}: no images left of {truncate_list(lost)}, "
            f"all of its files are broken: {result.broken[0]}"
        )
