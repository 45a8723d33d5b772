"""Out-of-distribution (OOD) images, which are of none of the classes, from a folder, at the side of the data's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compress.data.digests import digests
from compress.data.image_io import BrokenImage, is_folder, try_decode
from compress.data.left_out import LeftOut, Tally
from compress.data.parallel import in_blocks
from compress.data.source import Pixels
from compress.data.tree import image_files
from compress.store.store import Store
from compress.utils.console import task
from compress.utils.errors import UsageError
from compress.utils.hashing import key_of
from compress.utils.resources import expand

VERSION = 1  # of the pixels; part of the store key


@dataclass(frozen=True)
class OodImages:
    """Images `[n, 3, side, side]` of none of the classes; `key` is that of their content."""

    images: Pixels
    key: str
    left_out: tuple[LeftOut, ...] = ()


def prepare_ood(path: str, side: int, store: Store) -> OodImages:
    """Decode the images at any depth of a folder once into the store; files that are no images are left out.

    Raises:
        CompressError: a file cannot be read.
        UsageError: there is no such folder, or it has no image.
    """
    folder, tally = Path(expand(path)).expanduser(), Tally()
    if not is_folder(folder):
        raise UsageError(f"measure.ood: no folder at {folder}")
    files = list(image_files(folder, tally=tally))
    hashed = digests(files, store.root / "fingerprints.json", str(folder))
    key = key_of(kind="ood images", version=VERSION, side=side, files=hashed)
    place, _ = store.get(key, f"the OOD images in {folder}", lambda there: _decode(files, side, there))
    images = np.load(place / "images.npy", mmap_mode="r")
    if not len(images):
        raise UsageError(f"measure.ood: no readable image in {folder}")
    tally.add("image", "OOD image that cannot be decoded", files[0], len(files) - len(images))
    return OodImages(images, key, tally.rows())


def _decode(files: list[Path], side: int, folder: Path) -> None:
    with task("decoding OOD images", len(files)) as advance:
        decoded = list(in_blocks(iter(files), lambda file: try_decode(file, side), advance))
    kept = [pixels for pixels in decoded if not isinstance(pixels, BrokenImage)]
    np.save(folder / "images.npy", np.stack(kept) if kept else np.empty((0, 3, side, side), np.uint8))
