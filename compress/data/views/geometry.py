"""Geometry of views in fixed point: shift, flip and random-resized-crop as one resampling; affine maps."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

TAP_BITS = 14  # of a weight between two neighbouring rows or columns
WARP_BITS = 11  # the same for affine maps: 8 + 2 x 11 bits fit into an int32
MAP_BITS = 24  # of a coefficient of an affine map


def places(size: int, moved: Tensor, mirrored: Tensor | None = None) -> Tensor:
    """Return the position that each position of a shifted, mirrored axis comes from: int64 `[b, size]`.

    Positions outside of the image are reflected at the border, without repeating the border pixel.
    """
    found = torch.arange(size, device=moved.device).expand(len(moved), size)
    if mirrored is not None:
        found = torch.where(mirrored[:, None], size - 1 - found, found)
    return reflect(found + moved[:, None], size)


def reflect(found: Tensor, size: int) -> Tensor:
    """Fold positions outside of 0 to size - 1 back, without repeating the border pixel."""
    return (size - 1) - ((size - 1) - found.abs()).abs()


def move(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Take the pixels at `rows` `[b, h]` and `columns` `[b, w]` of images `[b, 3, h, w]`."""
    return _take_rows(images, rows).gather(3, columns[:, None, None].expand_as(images))


def crop_taps(found: Tensor, start: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """Return where positions of an axis lie in the part of it that is enlarged to all of it.

    Pixel centres are at halves, as in `torch.nn.functional.interpolate`; positions beyond the part's outermost pixel
    centres get these pixels.

    Args:
        found: Positions int64 `[b, n]` of an axis of n pixels.
        start: First pixel of the part, int64 `[b]`.
        length: Pixels of the part, int64 `[b]`.

    Returns:
        The pixel before each position, int64 `[b, n]`, and the weight of the next one, int32 `[b, n]` in units of
        2**-TAP_BITS; where there is no next pixel, the weight is 0.
    """
    size, length = found.shape[1], length[:, None]
    numerator = (2 * found + 1) * length - size  # of the position in pixels, over 2 * size
    whole = numerator.div(2 * size, rounding_mode="floor")
    weight = (((numerator - whole * 2 * size) << TAP_BITS) + size).div(2 * size, rounding_mode="floor")
    between = (numerator >= 0) & (whole < length - 1)
    before = torch.minimum(whole.clamp(min=0), length - 1) + start[:, None]
    return before, torch.where(between, weight, 0).int()


def resample(images: Tensor, rows: Tensor, row_weights: Tensor, columns: Tensor, column_weights: Tensor) -> Tensor:
    """Interpolate bilinearly between neighbouring rows and columns, rounding once.

    Values between the two passes have 6 more bits than pixels. A pixel and the difference to its right neighbour share
    an int32, so that one gather fetches both.

    Args:
        images: uint8 `[b, 3, h, w]`.
        rows: int64 `[b, h]` and `row_weights` int32 `[b, h]` as from `crop_taps`; `columns` likewise.

    Returns:
        int32 `[b, 3, h, w]`.
    """
    first = _take_rows(images, rows).int()
    values = _take_rows(images, (rows + 1).clamp_(max=images.shape[2] - 1)).int()
    values.sub_(first).mul_(row_weights[:, None, :, None]).add_(first, alpha=1 << TAP_BITS)
    values.bitwise_right_shift_(TAP_BITS - 6)
    steps = torch.sub(values[..., 1:], values[..., :-1], out=first[..., 1:])
    values[..., :-1].add_(steps, alpha=1 << 16)
    pairs = torch.gather(values, 3, columns[:, None, None].expand_as(values), out=first)
    steps = torch.bitwise_right_shift(pairs, 16, out=values).mul_(column_weights[:, None, None])
    steps.add_(pairs.bitwise_and_(0xFFFF), alpha=1 << TAP_BITS)
    return steps.add_(1 << (TAP_BITS + 5)).bitwise_right_shift_(TAP_BITS + 6)


def _take_rows(images: Tensor, rows: Tensor) -> Tensor:
    """Take the rows int64 `[b, n]` of images `[b, 3, h, w]`: as copies of whole rows, which is fast."""
    count, channels, height, width = images.shape
    starts = torch.arange(count * channels, device=images.device).view(count, channels, 1) * height
    chosen = (starts + rows[:, None]).flatten()
    return images.reshape(-1, width).index_select(0, chosen).view(count, channels, -1, width)


def shear_x(pixels: Tensor, amount: Tensor) -> Tensor:
    """Shear horizontally around the upper left corner; amount int64 `[b]` in units of 2**-MAP_BITS."""
    one, zero = torch.full_like(amount, 1 << MAP_BITS), torch.zeros_like(amount)
    return warp(pixels, torch.stack([one, amount, zero, one], 1), (0, 0))


def shear_y(pixels: Tensor, amount: Tensor) -> Tensor:
    """Shear vertically around the upper left corner; amount int64 `[b]` in units of 2**-MAP_BITS."""
    one, zero = torch.full_like(amount, 1 << MAP_BITS), torch.zeros_like(amount)
    return warp(pixels, torch.stack([one, zero, amount, one], 1), (0, 0))


def rotate(pixels: Tensor, step: Tensor, degrees: float, steps: int) -> Tensor:
    """Rotate counter-clockwise by degrees * step / steps around the centre; step int64 `[b]`, which may be negative."""
    table = torch.tensor(_turns(degrees, steps), device=pixels.device)
    cosine, sine = table[step.abs()].unbind(1)
    sine = sine * step.sign()
    return warp(pixels, torch.stack([cosine, -sine, sine, cosine], 1), (pixels.shape[2], pixels.shape[3]))


@lru_cache
def _turns(degrees: float, steps: int) -> list[tuple[int, int]]:
    """Cosines and sines from 0 to `degrees`, in units of 2**-MAP_BITS: trigonometry differs between devices."""
    angles = [math.radians(degrees * step / steps) for step in range(steps + 1)]
    return [(round(math.cos(a) * (1 << MAP_BITS)), round(math.sin(a) * (1 << MAP_BITS))) for a in angles]


def translate_x(pixels: Tensor, amount: Tensor) -> Tensor:
    """Move to the right by whole pixels, int64 `[b]`; pixels from outside are black."""
    columns = torch.arange(pixels.shape[3], device=pixels.device) - amount[:, None]
    inside = (columns >= 0) & (columns < pixels.shape[3])
    columns = columns.clamp(0, pixels.shape[3] - 1)
    return pixels.gather(3, columns[:, None, None].expand_as(pixels)).mul_(inside[:, None, None])


def translate_y(pixels: Tensor, amount: Tensor) -> Tensor:
    """Move down by whole pixels, int64 `[b]`; pixels from outside are black."""
    rows = torch.arange(pixels.shape[2], device=pixels.device) - amount[:, None]
    inside = (rows >= 0) & (rows < pixels.shape[2])
    return _take_rows(pixels, rows.clamp(0, pixels.shape[2] - 1)).mul_(inside[:, None, :, None])


def warp(pixels: Tensor, matrix: Tensor, centre: tuple[int, int]) -> Tensor:
    """Take each pixel from an affine function of its position, bilinearly; black outside of the image.

    Args:
        pixels: int32 `[b, 3, h, w]` in 0 to 255.
        matrix: int64 `[b, 4]` in units of 2**-MAP_BITS: source x = m0 x + m1 y, source y = m2 x + m3 y.
        centre: Twice the (y, x) of the fixed point, in pixels from the upper left corner.
    """
    height, width = pixels.shape[2:]
    x = 2 * torch.arange(width, device=pixels.device) + 1 - centre[1]
    y = 2 * torch.arange(height, device=pixels.device)[:, None] + 1 - centre[0]
    m = matrix[:, :, None, None]
    # Twice the source position of each pixel's centre, then from its corner, in units of 2**-MAP_BITS pixels.
    across = m[:, 0] * x + m[:, 1] * y + ((centre[1] - 1) << MAP_BITS)
    down = m[:, 2] * x + m[:, 3] * y + ((centre[0] - 1) << MAP_BITS)
    packed = pixels[:, 0] | pixels[:, 1] << 8 | pixels[:, 2] << 16
    packed = torch.nn.functional.pad(packed, (2, 2, 2, 2))  # black, so that nothing below asks what is inside
    columns = (across >> (MAP_BITS + 1)).clamp_(-2, width)
    rows = (down >> (MAP_BITS + 1)).clamp_(-2, height)
    first = ((rows + 2) * (width + 4) + columns + 2).flatten(1)
    corners = [packed.flatten(1).gather(1, first + step) for step in (0, 1, width + 4, width + 5)]
    x_weight, y_weight = (_fraction(position).flatten(1) for position in (across, down))
    one, out = 1 << WARP_BITS, torch.empty_like(pixels)
    for channel in range(3):
        a, b, c, d = ((corner >> (8 * channel)) & 0xFF for corner in corners)
        upper, lower = a * one + (b - a) * x_weight, c * one + (d - c) * x_weight
        blended = upper * one + (lower - upper) * y_weight + one * one // 2
        out[:, channel] = (blended >> (2 * WARP_BITS)).view(-1, height, width)
    return out


def _fraction(position: Tensor) -> Tensor:
    return ((position >> (MAP_BITS + 1 - WARP_BITS)) & ((1 << WARP_BITS) - 1)).int()
