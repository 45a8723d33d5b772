"""From a listing of images to arrays: the part that all sources of image files share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from compress.data.digests import image_digest
from compress.data.image_io import BrokenImage, TooManyPixels
from compress.data.listing import Listing, check_reading
from compress.data.originals import FileImages, Originals, places, stored_decoder
from compress.data.parallel import in_blocks
from compress.data.source import Contents, Images, Part, Pixels, Raw, Source
from compress.data.truncation import check_whole
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
    section: type[FileData],
    about: str,
    list_images: Callable[[Any], Listing],
    packages: tuple[str, ...] = (),
    load_index: Callable[[Any, Path | None], None] = lambda settings, cache: None,
) -> Source:
    """Make the source whose images are those that `list_images(settings)` lists; see `Source`.

    `load_index(settings, cache)` is called before with a JSON file, in which it may keep what makes listing fast.
    """

    def contents(settings: FileData, cache: Path | None) -> Contents:
        load_index(settings, cache and cache.with_name("headers.json"))
        listing = list_images(settings)
        has_test = "test" in listing.parts
        check_reading(settings, listing.where, has_test=has_test, sequential=listing.sequential)  # before much is read
        _check_names(listing)
        validation, counts = "validation" in listing.parts, listing.by_part()
        fingerprint, notes = listing.fingerprint(cache), (listing.left_out, listing.notes, listing.sequential)
        return Contents(fingerprint, listing.classes, validation, counts["train"], has_test, *notes, counts)

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
    """Decode all images into arrays below `scratch`, or only check that they are whole with `images: files`."""
    decoded = {name: _read_part(listing, name, settings, scratch) for name in listing.parts}
    for name, result in decoded.items():
        _check_left(listing, name, result)
    parts = {name: result.part for name, result in decoded.items()}
    skipped = tuple(text for result in decoded.values() for text in result.broken)
    return Raw(listing.classes, **{"test": None, **parts}, skipped=skipped)  # type: ignore[arg-type]


def _read_part(listing: Listing, name: str, settings: FileData, scratch: Path) -> Decoded:
    listed, side, lazy = listing.parts[name], settings.resolution, settings.images == "files"
    whole = partial(check_whole, side=side, max_pixels=settings.max_pixels)
    decode = whole if lazy else stored_decoder(settings, side)
    is_cut = name == "train" and "test" not in listing.parts
    readable, digests = np.ones(listed.count, bool), bytearray()
    broken: list[str] = []

    def read(image: Path | bytes) -> tuple[Pixels | BrokenImage | None, bytes]:
        return decode(image), image_digest(image) if is_cut else b""

    path = scratch / f"{name}.bin"
    what = f"checking the files of {name}" if lazy else f"decoding {name}"
    with path.open("wb") as out, task(what, listed.count) as advance:
        for row, (pixels, digest) in enumerate(in_blocks(listed.read(np.arange(listed.count)), read, advance)):
            if isinstance(pixels, BrokenImage):
                broken.append(_broken(listing, listed.name(row), pixels, settings))
                readable[row] = False
                continue
            digests += digest
            if pixels is not None:
                out.write(pixels.tobytes())
    kept = np.flatnonzero(readable)
    shape = (len(kept), 3, side, side)
    images: Images
    if lazy:
        images = FileImages(Originals(settings, scratch, listing=listing), places(name, kept))
    else:
        images = np.memmap(path, np.uint8, "r", shape=shape) if len(kept) else np.empty(shape, np.uint8)
    labels = None if listed.labels is None else listed.labels[kept]
    return Decoded(Part(images, labels, kept, np.frombuffer(digests, "S32") if is_cut else None), tuple(broken))


def _broken(listing: Listing, name: str, error: BrokenImage, settings: FileData) -> str:
    """Name a file that is not an image and the reason, or raise where such files are refused."""
    text = printable(f"{name} ({error})")
    if isinstance(error, TooManyPixels):  # a fine image: it is never skipped
        raise CompressError(f"{listing.where}: {text}; raise `max_pixels` in data, or remove the image")
    if settings.broken == "refuse":
        raise CompressError(f"{listing.where}: {text} is not a readable image; remove it, or set data.broken to skip")
    return text


def _check_left(listing: Listing, name: str, result: Decoded) -> None:
    labels = result.part.labels
    if labels is None:
        return
    counts = np.bincount(labels, minlength=len(listing.classes))
    lost = [listing.classes[row] for row in np.flatnonzero(counts == 0)]
    if lost and name != "validation":
        raise CompressError(
            f"{listing.where}: {listing.called.get(name, name)}: no images left of {truncate_list(lost)}, "
            f"all of its files are broken: {result.broken[0]}"
        )
