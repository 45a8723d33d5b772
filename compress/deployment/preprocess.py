"""Preprocessing of images for an artifact, with numpy and Pillow alone: the same pixels as the pipeline tests on.

Pillow is imported where pictures are decoded: timing an artifact on noise needs numpy only.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from compress.data.geometry import CropMode, Geometry
from compress.data.source import Pixels
from compress.utils.errors import CompressError, UsageError
from compress.utils.interpolation import Interpolation
from compress.utils.system import cores

if TYPE_CHECKING:
    from PIL import Image

Picture: TypeAlias = "str | Path | Image.Image | Pixels"  # a file, an open image, or its pixels uint8 `[h, w, 3]`, RGB

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Inputs:
    """How images become an artifact's input; `compress.data.preprocess` does the same for batches, in torch."""

    resolution: int  # side of the network's input in pixels
    mean: tuple[float, float, float]  # mean of each channel, on the scale 0 to 1
    std: tuple[float, float, float]  # standard deviation of each channel, on the scale 0 to 1
    interpolation: Interpolation  # filter of the resize from the original, or from `stored_resolution`
    # side in pixels at which the pipeline stores its images, whatever the network's own is; unused with `resize`
    stored_resolution: int
    resize: int | None = None  # shorter side in pixels to which originals are resized, before the centre crop
    crop_mode: CropMode = "center"

    def __call__(self, pictures: Sequence[Picture] | Pixels) -> Array:
        """Prepare a batch: n pictures to float32 `[n, 3, resolution, resolution]`, normalised.

        Raises:
            BrokenImage: a picture is not an image.
            CompressError: the system cannot read a file.
            UsageError: pixels are not uint8 `[h, w, 3]`.
        """
        pixels = [self.pixels(picture) for picture in pictures]
        side = self.resolution
        return self.normalise(np.stack(pixels) if pixels else np.empty((0, 3, side, side), np.uint8))

    def pixels(self, picture: Picture) -> Pixels:
        """Resize one picture to uint8 `[3, resolution, resolution]`; raises as a batch does."""
        from PIL import Image

        from compress.data.image_io import damage, decode, pixels_of

        if isinstance(picture, np.ndarray):
            require_pixels(picture)
            picture = Image.fromarray(np.ascontiguousarray(picture))
        to = self._target()
        if isinstance(picture, Image.Image):
            with damage():  # it is decoded only now
                pixels = pixels_of(picture, to)
        elif isinstance(picture, str | Path):
            pixels = decode(Path(picture), to)
        else:
            given = type(picture).__name__
            raise UsageError(f"an image must be a path, a PIL image or a numpy array, not {given}; convert it to one")
        return pixels if pixels.shape[-1] == self.resolution else self._resized(pixels)

    def _target(self) -> int | Geometry:
        if self.resize is None:
            return self.stored_resolution
        return Geometry(self.resolution, self.resize, self.interpolation, self.crop_mode)

    def normalise(self, pixels: Pixels) -> Array:
        """Normalise uint8 `[n, 3, r, r]` to float32 of the same shape."""
        means, stds = (np.array(values, np.float64).reshape(3, 1, 1) for values in (self.mean, self.std))
        scale, offset = (1 / (255 * stds)).astype(np.float32), (-means / stds).astype(np.float32)
        values: Array = pixels.astype(np.float32, order="C")
        values *= scale
        values += offset
        return values

    def noise(self, count: int) -> Array:
        """Make random images float32 `[count, 3, resolution, resolution]`, normalised, the same each time."""
        shape = (count, 3, self.resolution, self.resolution)
        return self.normalise(np.random.default_rng(0).integers(0, 256, shape, np.uint8))

    def _resized(self, stored: Pixels) -> Pixels:
        from PIL import Image

        image = Image.fromarray(np.ascontiguousarray(stored.transpose(1, 2, 0)))
        return Geometry(self.resolution, self.resolution, self.interpolation).render(image)


def require_pixels(pixels: Array, *, batch: bool = False) -> None:
    """Refuse an array that is not uint8 `[height, width, 3]`, or `[n, height, width, 3]` for a batch.

    That its channels are in RGB order cannot be seen.

    Raises:
        UsageError: says how to convert it.
    """
    shape, last = pixels.shape, 4 if batch else 3
    if pixels.dtype == np.uint8 and len(shape) == last and shape[-1] == 3 and 0 not in shape[-3:]:
        return
    fixes = (
        (pixels.dtype.kind == "f", "if they are 0 to 1, pass (pixels * 255).round().astype('uint8')"),
        (pixels.dtype != np.uint8, "if they are 0 to 255, pass pixels.astype('uint8')"),
        (batch and len(shape) == 3 and shape[-1] == 3, "pass a single image as [pixels]"),
        (len(shape) == last and shape[-3] == 3, "pass numpy.moveaxis(pixels, -3, -1)"),
        (len(shape) == last and shape[-1] == 4, "pass PIL.Image.fromarray(pixels), which is laid on white"),
        (len(shape) == last and shape[-1] == 1, "pass numpy.repeat(pixels, 3, -1)"),
        (len(shape) == last - 1, "for grey pass numpy.stack([pixels] * 3, -1)"),
        (True, "decode the image with PIL.Image.open"),
    )
    form = f"[{'n, ' if batch else ''}height, width, 3]"
    fix = next(fix for fits, fix in fixes if fits)
    raise UsageError(f"pixels must be uint8 {form}, not {pixels.dtype} {list(shape)}; {fix}")


@dataclass(frozen=True)
class Block:
    """Consecutive pictures of a list, decoded together."""

    rows: tuple[int, ...]  # indices in the list of those that are images
    pixels: Pixels  # uint8 `[rows, 3, resolution, resolution]`
    broken: dict[int, str]  # why the others cannot be read or are not images, by index


def decode_blocks(inputs: Inputs, pictures: Sequence[Picture], size: int) -> Iterator[Block]:
    """Decode pictures block by block, so that no more than one block of `size` pictures is in memory."""
    from compress.data.image_io import BrokenImage

    def attempt(picture: Picture) -> Pixels | str:
        try:
            return inputs.pixels(picture)
        except BrokenImage as error:
            return str(error)
        except CompressError as error:
            cause = error.__cause__
            return (isinstance(cause, OSError) and cause.strerror) or str(error)

    with ThreadPoolExecutor(cores()) as pool, warnings.catch_warnings():
        # Too many pixels are an error of ours; PIL's other warnings are about metadata.
        warnings.simplefilter("ignore")
        for start in range(0, len(pictures), size):
            results = dict(enumerate(pool.map(attempt, pictures[start : start + size]), start))
            good = {row: result for row, result in results.items() if not isinstance(result, str)}
            side = inputs.resolution
            pixels = np.stack(list(good.values())) if good else np.empty((0, 3, side, side), np.uint8)
            broken = {row: result for row, result in results.items() if isinstance(result, str)}
            yield Block(tuple(good), pixels, broken)
