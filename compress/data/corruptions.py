"""Common corruptions of test images: noise, blur, JPEG, contrast, brightness and pixelation, at graded severities.

Kinds, severities and parameters are those of ImageNet-C, and for images of at most 64 pixels per side those of
CIFAR-10-C (Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations,
ICLR 2019, arXiv 1903.12261; tables of https://github.com/hendrycks/robustness, `ImageNet-C/create_c`). The code is our
own, in NumPy and Pillow. As there, values are cut off to whole levels, except by JPEG and pixelation, which Pillow
rounds.

An image is corrupted by itself: its pixels depend on (seed, number of the image, corruption) and the severity, not on
the images that are read with it. Noise and direction of motion are the same at all severities.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compress.data.source import Images, Pixels
from compress.recipe.measure import CORRUPTIONS, Corruption

VERSION = 1  # raised when the same parameters give other pixels; part of store keys
SEVERITIES = (1, 3, 5)
"""Those of the five published severities that are measured."""
SMALL = 64
"""Largest side in pixels that the parameters of CIFAR-10-C are taken for; it has images of 32."""
BLOCK = 64  # images corrupted at once when all are iterated over

Floats = NDArray[np.float32]


class Parameters(NamedTuple):
    """Parameters of one corruption at the severities 1 to 5, each a tuple."""

    imagenet: tuple[tuple[float, ...], ...]  # of ImageNet-C
    cifar: tuple[tuple[float, ...], ...]  # of CIFAR-10-C


PARAMETERS: dict[Corruption, Parameters] = {
    # standard deviation, on the scale 0 to 1
    "gaussian_noise": Parameters(
        ((0.08,), (0.12,), (0.18,), (0.26,), (0.38,)), ((0.04,), (0.06,), (0.08,), (0.09,), (0.10,))
    ),
    # photons at full brightness
    "shot_noise": Parameters(((60,), (25,), (12,), (5,), (3,)), ((500,), (250,), (100,), (75,), (50,))),
    # radius in pixels and standard deviation of the kernel
    "motion_blur": Parameters(
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)), ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))
    ),
    # radius in pixels and standard deviation of the blur of the disk's edge
    "defocus_blur": Parameters(
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)), ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))
    ),
    # quality of the encoder
    "jpeg": Parameters(((25,), (18,), (15,), (10,), (7,)), ((80,), (65,), (58,), (50,), (40,))),
    # factor of the distance from the mean of each channel
    "contrast": Parameters(((0.4,), (0.3,), (0.2,), (0.1,), (0.05,)), ((0.75,), (0.5,), (0.4,), (0.3,), (0.15,))),
    # added to the value of HSV, on the scale 0 to 1
    "brightness": Parameters(((0.1,), (0.2,), (0.3,), (0.4,), (0.5,)), ((0.05,), (0.1,), (0.15,), (0.2,), (0.3,))),
    # size of the picture in between, relative to the image
    "pixelate": Parameters(((0.6,), (0.5,), (0.4,), (0.3,), (0.25,)), ((0.95,), (0.9,), (0.85,), (0.75,), (0.65,))),
}


def parameters(corruption: Corruption, severity: int, side: int) -> tuple[float, ...]:
    """Return the parameters of a corruption, for images whose longer side is `side` pixels.

    Raises:
        ValueError: the severity is not 1 to 5.
    """
    if not 1 <= severity <= 5:
        raise ValueError(f"severity must be 1 to 5, not {severity}")
    table = PARAMETERS[corruption]
    return (table.cifar if side <= SMALL else table.imagenet)[severity - 1]


def conditions(corruptions: Sequence[Corruption]) -> list[tuple[Corruption, int]]:
    """Return the corruptions with each of the severities that are measured."""
    return [(corruption, severity) for corruption in corruptions for severity in SEVERITIES]


def benchmark(side: int) -> str:
    """Name the benchmark whose parameters are used for images whose longer side is `side` pixels."""
    return "CIFAR-10-C" if side <= SMALL else "ImageNet-C"


def corrupt(image: Pixels, corruption: Corruption, severity: int, seed: int, number: int) -> Pixels:
    """Corrupt one image.

    Args:
        image: uint8 `[3, h, w]`.
        corruption: Kind of corruption.
        severity: 1 to 5.
        seed: Seed of the recipe.
        number: Number of the image in its split.

    Returns:
        uint8 `[3, h, w]`.
    """
    values = parameters(corruption, severity, max(image.shape[1:]))
    rng = np.random.Generator(np.random.PCG64([seed, CORRUPTIONS.index(corruption), number]))
    return _APPLY[corruption](np.asarray(image), values, rng)


@dataclass(frozen=True)
class CorruptedImages:
    """Images of a split that are corrupted when they are read; indexed like an array uint8 `[n, 3, h, w]`."""

    images: Images
    corruption: Corruption
    severity: int
    seed: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images.shape

    @property
    def nbytes(self) -> int:
        return self.images.nbytes

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Any) -> Pixels:
        """Corrupt the images of a row, a slice, an array of rows or a mask."""
        numbers = np.arange(len(self))[rows]
        pixels = np.asarray(self.images[rows])
        if not numbers.ndim:
            return corrupt(pixels, self.corruption, self.severity, self.seed, int(numbers))
        found = np.empty_like(pixels)
        for row, number in enumerate(numbers.tolist()):
            found[row] = corrupt(pixels[row], self.corruption, self.severity, self.seed, number)
        return found

    def __iter__(self) -> Iterator[Pixels]:
        for start in range(0, len(self), BLOCK):
            yield from self[start : start + BLOCK]


def _gaussian_noise(image: Pixels, values: tuple[float, ...], rng: np.random.Generator) -> Pixels:
    (deviation,) = values
    return _levels(image + 255 * deviation * rng.standard_normal(image.shape, np.float32))


def _shot_noise(image: Pixels, values: tuple[float, ...], rng: np.random.Generator) -> Pixels:
    (photons,) = values
    return _levels(rng.poisson(image * (photons / 255)) * (255 / photons))


def _motion_blur(image: Pixels, values: tuple[float, ...], rng: np.random.Generator) -> Pixels:
    """Blur in a direction of −45 to 45 degrees, with the kernel of ImageMagick's motion blur.

    Half of a Gaussian: 2 radius + 1 taps, one pixel apart. Pixels beyond the border are those of the border.
    """
    radius, deviation = values
    angle, taps = math.radians(rng.uniform(-45, 45)), 2 * math.ceil(radius) + 1
    weights = np.exp(-0.5 * (np.arange(taps) / deviation) ** 2)
    weights /= weights.sum()
    offsets = [(math.ceil(k * math.sin(angle) - 0.5), math.ceil(k * math.cos(angle) - 0.5)) for k in range(taps)]
    reach = max(max(abs(down), abs(right)) for down, right in offsets)
    padded = np.pad(image.astype(np.float32), ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    return _levels(_weighted(padded, image.shape, [(reach + d, reach + r) for d, r in offsets], weights))


def _defocus_blur(image: Pixels, values: tuple[float, ...], rng: np.random.Generator) -> Pixels:
    """Convolve with a disk, in the frequency domain as large disks have hundreds of taps; borders are mirrored."""
    kernel, (height, width) = _disk(*values), image.shape[1:]
    reach = len(kernel) // 2
    padded = np.pad(image.astype(np.float64), ((0, 0), (reach, reach), (reach, reach)), mode="reflect")
    down, right = (-(-side // 32) * 32 for side in padded.shape[1:])  # lengths that are transformed fast
    spectrum = np.fft.rfft2(padded, (down, right)) * np.fft.rfft2(kernel, (down, right))
    inside = slice(2 * reach, 2 * reach + height), slice(2 * reach, 2 * reach + width)
    return _levels(np.fft.irfft2(spectrum, (down, right))[:, *inside])


@cache
def _disk(radius: float, deviation: float) -> NDArray[np.float64]:
    """Return a disk `[side, side]` whose edge a small Gaussian has blurred, without the zeros around it.

    The grid has a radius of 8 pixels, or that of a larger disk, and is mirrored at its edges, as there.
    """
    small = radius <= 8
    grid = np.arange(-8, 9) if small else np.arange(-radius, radius + 1)
    disk = (grid[:, None] ** 2 + grid**2 <= radius**2).astype(np.float64)
    disk /= disk.sum()
    reach = 1 if small else 2
    gaussian = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    gaussian /= gaussian.sum()
    padded, size = np.pad(disk, reach, mode="reflect"), len(disk)
    rows = sum(weight * padded[k : k + size] for k, weight in enumerate(gaussian))
    kernel = sum(weight * rows[:, k : k + size] for k, weight in enumerate(gaussian))
    found = np.asarray(np.where(kernel > 1e-9, kernel, 0))
    while len(found) > 1 and not found[0].any():  # it is symmetric
        found = found[1:-1, 1:-1]
    return found


def _weighted(
    padded: Floats, shape: tuple[int, ...], offsets: list[tuple[int, int]], weights: NDArray[np.float64]
) -> Floats:
    """Add up parts of a padded image `[3, H, W]` from the offsets on, weighted, to `[3, h, w]`."""
    total, (height, width) = np.zeros(shape, np.float32), shape[1:]
    for (down, right), weight in zip(offsets, weights.astype(np.float32), strict=True):
        total += weight * padded[:, down : down + height, right : right + width]
    return total


def _jpeg(image: Pixels, values: tuple[float, ...], rng: np.random.Generator) -> Pixels:
    with io.BytesIO() as file:
        _picture(image).save(file, "JPEG", quality=int(values[0]))
        with Image.open(file) as decoded:
            return _pixels(decoded)


def _contrast(image: Pixels, values: tuple[float, ...], rng: np.random.Generator) -> Pixels:
    means = image.mean(axis=(1, 2), keepdims=True)
    return _levels((image - means) * values[0] + means)


def _brightness(image: Pixels, values: tuple[float, ...], rng: np.random.Generator) -> Pixels:
    """Raise the value of HSV, the largest channel; hue and saturation stay, so the others keep their ratio to it."""
    largest = image.max(axis=0, keepdims=True).astype(np.float64)
    raised = np.minimum(largest + 255 * values[0], 255)
    ratio = np.divide(raised, largest, out=np.zeros_like(raised), where=largest > 0)
    return _levels(np.where(largest > 0, image * ratio, raised))


def _pixelate(image: Pixels, values: tuple[float, ...], rng: np.random.Generator) -> Pixels:
    height, width = image.shape[1:]
    small = (max(1, int(width * values[0])), max(1, int(height * values[0])))
    reduced = _picture(image).resize(small, Image.Resampling.BOX)
    return _pixels(reduced.resize((width, height), Image.Resampling.BOX))


def _levels(values: NDArray[Any]) -> Pixels:
    """Cut values on the scale 0 to 255 off to whole levels; what is a level but for rounding of floats stays one."""
    levels: Pixels = (np.clip(values, 0, 255) + 1e-3).astype(np.uint8)
    return levels


def _picture(image: Pixels) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))


def _pixels(picture: Image.Image) -> Pixels:
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


_APPLY: dict[Corruption, Callable[[Pixels, tuple[float, ...], np.random.Generator], Pixels]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "motion_blur": _motion_blur,
    "defocus_blur": _defocus_blur,
    "jpeg": _jpeg,
    "contrast": _contrast,
    "brightness": _brightness,
    "pixelate": _pixelate,
}
