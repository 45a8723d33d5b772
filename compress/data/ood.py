"""Out-of-distribution (OOD) images, which are of none of the classes, from a folder, decoded like the data's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from compress.data.digests import digests, pixel_digests
from compress.data.image_io import BrokenImage, TooManyPixels, decoder_versions, is_folder
from compress.data.leakage import comparison_key, image_digests
from compress.data.left_out import LeftOut, Tally
from compress.data.originals import stored_decoder
from compress.data.parallel import in_blocks
from compress.data.prepared import SPLITS, ImageData
from compress.data.source import Pixels
from compress.data.tree import image_files
from compress.recipe.data import DataSection, FileData
from compress.store.store import Store
from compress.utils.console import task
from compress.utils.errors import CompressError, UsageError
from compress.utils.hashing import key_of
from compress.utils.resources import expand

VERSION = 1  # of the pixels; part of the store key
PIXELS = "images.bin"
BROKEN = "broken.json"  # names of the files that could not be decoded


@dataclass(frozen=True)
class OodFolder:
    """The image files of a folder, at any depth, what else is in it, and how they are decoded."""

    path: Path
    files: tuple[Path, ...]
    left_out: tuple[LeftOut, ...]
    cache: Path  # of the digests of files
    settings: DataSection  # of the data, whose images they are decoded like
    side: int  # of the decoded images in pixels

    @cached_property
    def digests(self) -> list[str]:
        return digests(self.files, self.cache, str(self.path))

    @cached_property
    def key(self) -> str:
        """Key of the decoded images; it depends on their content and on how they are decoded alone."""
        return key_of(
            kind="ood images",
            version=VERSION,
            decoders=decoder_versions(),
            draft=False,  # once those of `images: files` were
            side=self.side,
            files=self.digests,
        )


@dataclass(frozen=True)
class OodImages:
    """Images `[n, 3, side, side]` of none of the classes; `key` is that of their content."""

    images: Pixels
    key: str
    left_out: tuple[LeftOut, ...] = ()


def list_ood(path: str, settings: DataSection, side: int, store: Store) -> OodFolder:
    """List the images of a folder, to be decoded like those of the data with these settings, at its side.

    Raises:
        CompressError: a folder cannot be read.
        UsageError: there is no such folder, or it has no image.
    """
    folder = Path(expand(path)).expanduser()
    tally = Tally(folder)
    if not is_folder(folder):
        raise UsageError(f"measure.ood: no folder at {folder}")
    files = tuple(image_files(folder, tally=tally))
    if not files:
        raise UsageError(f"measure.ood: no image in {folder}")
    return OodFolder(folder, files, tally.rows(), store.root / "fingerprints.json", settings, side)


def prepare_ood(path: str, settings: DataSection, data: ImageData, store: Store) -> OodImages:
    """Decode the images of a folder once into the store; files that cannot be decoded are left out.

    Args:
        path: The folder.
        settings: Settings of the data.
        data: The prepared data.
        store: Where the pixels are kept.

    Raises:
        CompressError: a file cannot be read, or has more pixels than the data admits.
        UsageError: there is no such folder, it has no readable image, or images of it are in the data.
    """
    side = data.resolution
    folder = list_ood(path, settings, side, store)
    place, _ = store.get(folder.key, f"the OOD images in {folder.path}", lambda there: _decode(folder, there))
    count = (place / PIXELS).stat().st_size // (3 * side * side)
    if not count:
        raise UsageError(f"measure.ood: no readable image in {folder.path}")
    images = np.memmap(place / PIXELS, np.uint8, "r", shape=(count, 3, side, side))
    _refuse_shared(folder, images, data, store)
    broken = Tally(folder.path)
    names = json.loads((place / BROKEN).read_text()) if (place / BROKEN).exists() else []  # of earlier ones unknown
    broken.add("image", "OOD image that cannot be decoded", next(iter(names), ""), len(folder.files) - count)
    return OodImages(images, folder.key, (*folder.left_out, *broken.rows()))


def _decode(folder: OodFolder, there: Path) -> None:
    decode = stored_decoder(folder.settings, folder.side)
    broken = []
    with (there / PIXELS).open("wb") as file, task("decoding OOD images", len(folder.files)) as advance:
        decoded = in_blocks(iter(folder.files), decode, advance)
        for image, pixels in zip(folder.files, decoded, strict=True):
            if isinstance(pixels, TooManyPixels):  # a fine image: it is never left out
                way_out = "raise `max_pixels` in data, or " if isinstance(folder.settings, FileData) else ""
                raise CompressError(f"measure.ood: {image} ({pixels}); {way_out}remove the image")
            if isinstance(pixels, BrokenImage):
                broken.append(str(image.relative_to(folder.path)))
            else:
                file.write(pixels.tobytes())
    (there / BROKEN).write_text(json.dumps(broken))


def _refuse_shared(folder: OodFolder, images: Pixels, data: ImageData, store: Store) -> None:
    """Refuse images that the data has too: they are of its classes."""

    def search(there: Path) -> None:
        own = {bytes.fromhex(each) for each in folder.digests}
        with task("OOD images in the data", len(images) + sum(len(getattr(data, name)) for name in SPLITS)) as advance:
            own |= set(pixel_digests(images, advance))
            shared = [name for name in SPLITS if not own.isdisjoint(image_digests(data, name, advance))]
        (there / "shared.txt").write_text("\n".join(shared))

    key = {"kind": "ood images in the data", "images": folder.key, "data": data.key, **comparison_key(data)}
    shared_key = key_of(version=VERSION, **key)
    place, _ = store.get(shared_key, "the look for OOD images in the data", search)
    if shared := (place / "shared.txt").read_text().split():
        raise UsageError(
            f"measure.ood: images in {folder.path} are in {' and '.join(shared)} too, so that they are of the classes; "
            "name a folder of others"
        )
