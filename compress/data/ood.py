"""Out-of-distribution (OOD) images, which are of none of the classes, from a folder, at the side of the data's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from compress.data.digests import digests, pixel_digests
from compress.data.image_io import BrokenImage, decoder_versions, is_folder, try_decode
from compress.data.leakage import image_digests
from compress.data.left_out import LeftOut, Tally
from compress.data.parallel import in_blocks
from compress.data.prepared import SPLITS, ImageData
from compress.data.source import Pixels
from compress.data.tree import image_files
from compress.store.store import Store
from compress.utils.console import task
from compress.utils.errors import UsageError
from compress.utils.hashing import key_of
from compress.utils.resources import expand

VERSION = 1  # of the pixels; part of the store key
PIXELS = "images.bin"


@dataclass(frozen=True)
class OodFolder:
    """The image files of a folder, at any depth, and what else is in it."""

    path: Path
    files: tuple[Path, ...]
    left_out: tuple[LeftOut, ...]
    cache: Path  # of the digests of files

    @cached_property
    def digests(self) -> list[str]:
        return digests(self.files, self.cache, str(self.path))

    def key(self, side: int) -> str:
        """Return the key of the images at a side; it depends on their content and the decoder alone."""
        return key_of(kind="ood images", version=VERSION, decoders=decoder_versions(), side=side, files=self.digests)


@dataclass(frozen=True)
class OodImages:
    """Images `[n, 3, side, side]` of none of the classes; `key` is that of their content."""

    images: Pixels
    key: str
    left_out: tuple[LeftOut, ...] = ()


def list_ood(path: str, store: Store) -> OodFolder:
    """List the images of a folder.

    Raises:
        CompressError: a folder cannot be read.
        UsageError: there is no such folder, or it has no image.
    """
    folder, tally = Path(expand(path)).expanduser(), Tally()
    if not is_folder(folder):
        raise UsageError(f"measure.ood: no folder at {folder}")
    files = tuple(image_files(folder, tally=tally))
    if not files:
        raise UsageError(f"measure.ood: no image in {folder}")
    return OodFolder(folder, files, tally.rows(), store.root / "fingerprints.json")


def prepare_ood(path: str, data: ImageData, store: Store) -> OodImages:
    """Decode the images of a folder once into the store; files that cannot be decoded are left out.

    Raises:
        CompressError: a file cannot be read.
        UsageError: there is no such folder, it has no readable image, or images of it are in the data.
    """
    folder, side = list_ood(path, store), data.resolution
    key = folder.key(side)
    place, _ = store.get(key, f"the OOD images in {folder.path}", lambda there: _decode(folder, side, there))
    count = (place / PIXELS).stat().st_size // (3 * side * side)
    if not count:
        raise UsageError(f"measure.ood: no readable image in {folder.path}")
    images = np.memmap(place / PIXELS, np.uint8, "r", shape=(count, 3, side, side))
    _refuse_shared(folder, images, key, data, store)
    broken = Tally()
    broken.add("image", "OOD image that cannot be decoded", folder.path, len(folder.files) - count)
    return OodImages(images, key, (*folder.left_out, *broken.rows()))


def _decode(folder: OodFolder, side: int, there: Path) -> None:
    with (there / PIXELS).open("wb") as file, task("decoding OOD images", len(folder.files)) as advance:
        for pixels in in_blocks(iter(folder.files), lambda image: try_decode(image, side), advance):
            if not isinstance(pixels, BrokenImage):
                file.write(pixels.tobytes())


def _refuse_shared(folder: OodFolder, images: Pixels, key: str, data: ImageData, store: Store) -> None:
    """Refuse images that the data has too: they are of its classes."""

    def search(there: Path) -> None:
        own = {bytes.fromhex(each) for each in folder.digests}
        with task("OOD images in the data", len(images) + sum(len(getattr(data, name)) for name in SPLITS)) as advance:
            own |= set(pixel_digests(images, advance))
            shared = [name for name in SPLITS if not own.isdisjoint(image_digests(getattr(data, name).images, advance))]
        (there / "shared.txt").write_text("\n".join(shared))

    shared_key = key_of(kind="ood images in the data", version=VERSION, images=key, data=data.key)
    place, _ = store.get(shared_key, "the look for OOD images in the data", search)
    if shared := (place / "shared.txt").read_text().split():
        raise UsageError(
            f"measure.ood: images in {folder.path} are in {' and '.join(shared)} too, so that they are of the classes; "
            "name a folder of others"
        )
