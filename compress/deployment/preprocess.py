"""Preprocessing of images for an artifact, with numpy and Pillow alone: the same pixels as the pipeline tests on."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np
from PIL import Image

from compress.data.image_io import BrokenImage, decode, pixels_of
from compress.data.source import Pixels
from compress.utils.errors import CompressError, UsageError, first_line

PREPROCESS = "preprocess.json"
Picture = str | Path | Image.Image | Pixels  # a file, an open image, or its pixels uint8 `[h, w, 3]`

Array = np.ndarray[Any, Any]


class PreprocessFile(TypedDict):
    """Content of `preprocess.json`, which an export writes beside the artifact.

    `load_artifact` needs all keys but `interpolation` and `stored_resolution`; to time a file, `resolution` is enough.
    """

    resolution: int
    mean: NotRequired[list[float]]
    std: NotRequired[list[float]]
    interpolation: NotRequired[Literal["bicubic", "bilinear"]]
    stored_resolution: NotRequired[int]
    classes: NotRequired[list[str]]


@dataclass(frozen=True)
class Inputs:
    """How images become an artifact's input; `compress.data.preprocess` does the same for batches, in torch."""

    resolution: int  # side of the network's input in pixels
    mean: tuple[float, float, float]  # mean of each channel, on the scale 0 to 1
    std: tuple[float, float, float]  # standard deviation of each channel, on the scale 0 to 1
    interpolation: Literal["bicubic", "bilinear"]  # filter of the resize from `stored_resolution` to `resolution`
    stored_resolution: int  # side in pixels at which the pipeline stores its images, whatever the network's own is

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
        if isinstance(picture, np.ndarray):
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != 3 or 0 in picture.shape:
                shape = list(picture.shape)
                raise UsageError(f"pixels must be uint8 [height, width, 3], not {picture.dtype} {shape}")
            picture = Image.fromarray(np.ascontiguousarray(picture))
        side = self.stored_resolution
        if isinstance(picture, Image.Image):
            try:
                stored = pixels_of(picture, side)
            except BrokenImage:
                raise
            except Exception as error:  # it is decoded only now, and damaged bytes raise exceptions of a dozen types
                raise BrokenImage(first_line(error)) from error
        else:
            stored = decode(Path(picture), side)
        return stored if side == self.resolution else self._resized(stored)

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
        filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
        image = Image.fromarray(np.ascontiguousarray(stored.transpose(1, 2, 0)))
        side = self.resolution
        return np.asarray(image.resize((side, side), filters[self.interpolation])).transpose(2, 0, 1)


def read_inputs(folder: Path) -> tuple[Inputs, tuple[str, ...]]:
    """Read how images are prepared for the artifact in a folder, and the names of its classes.

    Raises:
        CompressError: `preprocess.json` is missing, damaged, or has impossible values.
    """
    path = folder / PREPROCESS
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CompressError(f"{folder} has no {PREPROCESS}, which the export writes beside the model") from error
    except OSError as error:
        raise CompressError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CompressError(f"{path} is damaged: {first_line(error)}") from error
    try:
        return _inputs(values), _classes(values)
    except KeyError as error:
        raise CompressError(f"{path} is damaged: {error.args[0]} is missing") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise CompressError(f"{path} is damaged: {first_line(error)}") from error


def _inputs(values: Any) -> Inputs:
    if not isinstance(values, dict):
        raise ValueError("it is not a JSON object")
    resolution = _side(values["resolution"], "resolution")
    mean, std = _channels(values["mean"], "mean"), _channels(values["std"], "std")
    if min(std) <= 0:
        raise ValueError("std must be positive")
    interpolation = values.get("interpolation", "bicubic")
    if interpolation not in ("bicubic", "bilinear"):
        raise ValueError(f"interpolation must be bicubic or bilinear, not {interpolation!r}")
    stored = _side(values.get("stored_resolution", resolution), "stored_resolution")
    return Inputs(resolution, mean, std, interpolation, stored)


def _side(value: Any, name: str) -> int:
    if type(value) is not int or not 0 < value <= 65535:
        raise ValueError(f"{name} must be a side in pixels, not {value!r}")
    return value


def _channels(values: Any, name: str) -> tuple[float, float, float]:
    numbers = values if isinstance(values, list) else []
    if len(numbers) != 3 or not all(type(value) in (int, float) and math.isfinite(value) for value in numbers):
        raise ValueError(f"{name} must be three numbers, not {values!r}")
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def _classes(values: Any) -> tuple[str, ...]:
    classes = values["classes"]
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        raise ValueError("classes must be a list of names")
    if len(set(classes)) < len(classes):
        raise ValueError("class names must be unique")
    return tuple(classes)


@dataclass(frozen=True)
class Block:
    """Consecutive pictures of a list, decoded together."""

    rows: tuple[int, ...]  # indices in the list of those that are images
    pixels: Pixels  # uint8 `[rows, 3, resolution, resolution]`
    broken: dict[int, str]  # why the others cannot be read or are not images, by index


def decode_blocks(inputs: Inputs, pictures: Sequence[Picture], size: int) -> Iterator[Block]:
    """Decode pictures block by block, so that no more than one block of `size` pictures is in memory."""

    def attempt(picture: Picture) -> Pixels | str:
        try:
            return inputs.pixels(picture)
        except BrokenImage as error:
            return str(error)
        except CompressError as error:
            cause = error.__cause__
            return (isinstance(cause, OSError) and cause.strerror) or str(error)

    with ThreadPoolExecutor() as pool, warnings.catch_warnings():
        # Too many pixels are an error of ours; PIL's other warnings are about metadata.
        warnings.simplefilter("ignore")
        for start in range(0, len(pictures), size):
            results = dict(enumerate(pool.map(attempt, pictures[start : start + size]), start))
            good = {row: result for row, result in results.items() if not isinstance(result, str)}
            side = inputs.resolution
            pixels = np.stack(list(good.values())) if good else np.empty((0, 3, side, side), np.uint8)
            broken = {row: result for row, result in results.items() if isinstance(result, str)}
            yield Block(tuple(good), pixels, broken)
