"""Evaluation pixels: images of a split as the eval transform of a network makes them from the original files."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from compress.data.image_io import BrokenImage, try_decode
from compress.data.originals import Originals
from compress.data.parallel import in_blocks
from compress.data.prepared import ImageData, Split
from compress.data.preprocess import Preprocess
from compress.data.source import Pixels, Rows
from compress.store.store import Store
from compress.utils.console import task
from compress.utils.errors import CompressError
from compress.utils.hashing import key_of

VERSION = 1  # of the pixels; part of the store key


def rendered(
    data: ImageData, store: Store, split: str, preprocess: Preprocess, rows: Rows | None = None
) -> tuple[Split, Preprocess]:
    """Return the images of a split, and the preprocessing that takes them to the input of the network.

    Where the preprocessing is for original pictures and there are files, they are decoded, resized and cropped by
    Pillow once into the store, to the pixels that torchvision's `Resize` and `CenterCrop` make of
    `Image.open(file).convert("RGB")`; what is left is the normalisation. Unlike there, the EXIF orientation is applied,
    transparency is laid on white, and 16-bit grey is scaled. Otherwise they are the stored images.

    Args:
        data: The prepared data.
        store: Where the pixels are kept, by data, split, rows, resize and crop.
        split: Name of the split.
        preprocess: Preprocessing of the network.
        rows: Rows of the split, in the order wanted, such as a calibration set; all if None.

    Raises:
        CompressError: an original cannot be read.
    """
    whole: Split = getattr(data, split)
    chosen = np.arange(len(whole)) if rows is None else rows
    labels = whole.labels if whole.labels is None or rows is None else whole.labels[rows]
    if data.originals is None or not preprocess.from_originals or len(chosen) == 0:
        return Split(whole.images if rows is None else whole.images[rows], labels), preprocess
    key = key_of(
        kind="rendered",
        version=VERSION,
        data=data.key,  # with the release of the decoder
        split=split,
        rows=None if rows is None else rows.tolist(),
        geometry=asdict(preprocess.geometry),
    )
    what = f"the {split} images of {data.name} at {preprocess.resolution} pixels"
    originals = data.originals
    folder, _ = store.get(key, what, lambda folder: _render(originals, split, chosen, preprocess, folder))
    shape = (len(chosen), 3, preprocess.resolution, preprocess.resolution)
    images: Pixels = np.memmap(folder / "images.bin", np.uint8, "r", shape=shape)
    return Split(images, labels), replace(preprocess, resize=None, crop_mode="center")


def _render(originals: Originals, split: str, rows: Rows, preprocess: Preprocess, folder: Path) -> None:
    """Write the images of `rows`, block by block."""
    geometry, most = preprocess.geometry, originals.settings.max_pixels

    def attempt(image: Path | bytes) -> Pixels | BrokenImage:
        return try_decode(image, geometry, max_pixels=most)

    with (folder / "images.bin").open("wb") as file, task(f"eval transform: {split}", len(rows)) as advance:
        for row, pixels in zip(rows, in_blocks(originals.read(split, rows), attempt, advance), strict=True):
            if isinstance(pixels, BrokenImage):
                name = originals.name(originals.places(split)[row])
                raise CompressError(f"{name} is not a readable image ({pixels}); restore it, or remove it and rerun")
            file.write(pixels.tobytes())
