"""Views: augmented versions of images that can be rendered again, bit for bit, at any time and in any batch.

A view is determined by (seed, image index, view number). Pixels are computed on integers, random numbers are hashes of
counters (`draws`), and functions that libraries and devices round differently are tables, so that devices, threads and
batches cannot differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from compress.data.views import colour, filters, geometry
from compress.data.views.augment import STEPS, augment, operations
from compress.data.views.boxes import draw_boxes
from compress.data.views.draws import Draw, Draws
from compress.recipe.data import Views

CHUNK = 640_000  # values that a CPU works on at once: they stay in its cache
GPU_CHUNK = 100_000_000
ROTATIONS = 1024  # angles on each side
ERASED = 128  # value of erased pixels: grey, which networks see as about zero
ERASED_AREA, ERASED_ASPECT = (0.02, 0.33), (0.3, 3.3)  # torchvision's defaults (Zhong et al. 2017, arXiv 1708.04896)

# A function of pixels `[c, 3, h, w]`, uint8 or int32, and parameters of each image `[c, ...]` to such pixels. Pixels in
# int32 may be changed in place.
Step = tuple[Callable[..., Tensor], tuple[Tensor, ...]]


def render(images: Tensor, indices: Tensor, view: int, seed: int, settings: Views) -> Tensor:
    """Render one view of each image; uint8 `[b, 3, h, w]` on their device.

    In this order: crop, flip, shift, rotation, RandAugment or TrivialAugment, brightness, contrast, saturation, hue,
    grayscale, blur, erasing. View numbers start at 0, and every view is augmented: there is no plain one. Settings of 0
    and false return the images unchanged. Pixels that a shift brings in are reflections at the border.

    Args:
        images: uint8 `[b, 3, h, w]`, on any device.
        indices: int64 `[b]`, the index of each image in the training set, independent of its batch.

    Raises:
        ValueError: a shape, a type or the view number is wrong.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be uint8 [b, 3, h, w], not {images.dtype} {list(images.shape)}")
    if indices.dtype != torch.int64 or indices.shape != images.shape[:1]:
        raise ValueError(f"indices must be int64 [{len(images)}], not {indices.dtype} {list(indices.shape)}")
    if view < 0:
        raise ValueError(f"view numbers start at 0, not {view}")
    height, width = images.shape[2:]
    draws = Draws(indices.to(images.device), view, seed)
    steps = [
        step for part in (_geometry, _augmented, _coloured, _covered) for step in part(draws, height, width, settings)
    ]
    if not steps or not images.numel():
        return images
    out = torch.empty_like(images, memory_format=torch.contiguous_format)
    count = max(1, (GPU_CHUNK if images.is_cuda else CHUNK) // images[0].numel())
    for start in range(0, len(images), count):
        chunk = slice(start, start + count)
        pixels = images[chunk]
        for apply, parameters in steps:
            pixels = apply(pixels, *(values[chunk] for values in parameters))
        out[chunk] = pixels
    return out


def _geometry(draws: Draws, height: int, width: int, settings: Views) -> Iterator[Step]:
    down, right = round(settings.shift * height), round(settings.shift * width)
    if settings.crop or down or right or settings.flip:
        mirrored = draws.chance(Draw.FLIP, 0.5) if settings.flip else None
        rows = geometry.places(height, draws.between(Draw.DOWN, down))
        columns = geometry.places(width, draws.between(Draw.RIGHT, right), mirrored)
        if settings.crop:
            boxes = draw_boxes(draws, Draw.CROP, (height, width), settings.crop, settings.ratio)
            row_taps = geometry.crop_taps(rows, boxes.top, boxes.height)
            yield geometry.resample, (*row_taps, *geometry.crop_taps(columns, boxes.left, boxes.width))
        else:
            yield geometry.move, (rows, columns)
    if settings.rotation:
        turn = partial(geometry.rotate, degrees=settings.rotation, steps=ROTATIONS)
        yield _integers(turn), (draws.between(Draw.ROTATION, ROTATIONS),)


def _augmented(draws: Draws, height: int, width: int, settings: Views) -> Iterator[Step]:
    if settings.augment is None:
        return
    count = len(operations(settings.augment, height, width))
    random = settings.augment == "randaugment"
    for number in range(Draw.AUGMENT, Draw.AUGMENT + 3 * (settings.operations if random else 1), 3):
        magnitude = draws.below(number + 1, STEPS + 1)
        if random:
            magnitude = torch.full_like(magnitude, settings.magnitude)
        parameters = draws.below(number, count), magnitude, draws.chance(number + 2, 0.5)
        yield _integers(partial(augment, method=settings.augment)), parameters


def _coloured(draws: Draws, height: int, width: int, settings: Views) -> Iterator[Step]:
    factors = {
        Draw.BRIGHTNESS: (settings.brightness, colour.brightness),
        Draw.CONTRAST: (settings.contrast, colour.contrast),
        Draw.SATURATION: (settings.saturation, colour.saturation),
    }
    for draw, (largest, apply) in factors.items():
        if largest:
            yield _integers(apply), (draws.factor(draw, largest),)
    if settings.hue:
        yield _integers(colour.hue), (draws.between(Draw.HUE, round(settings.hue * colour.TURN)),)
    if settings.grayscale:
        yield _integers(colour.grayscale), (draws.chance(Draw.GRAYSCALE, settings.grayscale),)


def _covered(draws: Draws, height: int, width: int, settings: Views) -> Iterator[Step]:
    if settings.blur:
        chosen, step = draws.chance(Draw.BLUR, settings.blur), draws.below(Draw.SIGMA, filters.SIGMAS)
        yield _integers(partial(filters.blur, sigma=settings.sigma)), (chosen, step)
    if settings.erasing:
        boxes = draw_boxes(draws, Draw.ERASED, (height, width), ERASED_AREA, ERASED_ASPECT)
        chosen = draws.chance(Draw.ERASING, settings.erasing) & boxes.found
        yield _integers(_erase), (chosen, boxes.top, boxes.left, boxes.height, boxes.width)


def _erase(pixels: Tensor, chosen: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
    rows = torch.arange(pixels.shape[2], device=pixels.device) - top[:, None]
    columns = torch.arange(pixels.shape[3], device=pixels.device) - left[:, None]
    in_rows = (rows >= 0) & (rows < height[:, None]) & chosen[:, None]
    in_columns = (columns >= 0) & (columns < width[:, None])
    return pixels.masked_fill_((in_rows[:, :, None] & in_columns[:, None])[:, None], ERASED)


def _integers(apply: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let a step that works on int32 follow one that leaves uint8."""
    return lambda pixels, *parameters: apply(pixels.int(), *parameters)
