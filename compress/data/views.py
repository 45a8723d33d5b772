"""Views: augmented versions of images that can be rendered again, bit for bit, at any time and in any batch.

A view is determined by (seed, image index, view number). All arithmetic is on integers, so that devices, threads and
batches cannot differ. Random numbers are splitmix64 (Steele, Lea & Flood 2014, doi 10.1145/2714064.2660195) used as a
counter-based generator: a hash of the counters instead of a running state.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compress.recipe.data import Views

GOLDEN = 0x9E3779B97F4A7C15
FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
ONE = 1 << 16  # 1.0 as a fixed-point number
BITS = 24  # random bits per draw
LUMA = (19595, 38470, 7471)  # ITU-R 601 weights of R, G, B times ONE, as PIL uses them


def render(images: Tensor, indices: Tensor, view: int, seed: int, settings: Views) -> Tensor:
    """Render one view of each image: shift, flip, brightness and contrast, in this order; uint8 on their device.

    View numbers start at 0, and every view is augmented: there is no plain one. Settings of 0 and false return the
    images unchanged. Pixels that a shift brings in are reflections at the border.

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
    states = _states(indices.to(images.device), view, seed)
    images = _move(images, states, settings)
    if settings.brightness:
        images = _blend(images, _factor(states, 3, settings.brightness), 0)
    if settings.contrast:
        images = _blend(images, _factor(states, 4, settings.contrast), _mean_grey(images))
    return images


def _move(images: Tensor, states: Tensor, settings: Views) -> Tensor:
    """Shift with reflection at the borders, then flip."""
    height, width = images.shape[-2:]
    down, right = round(settings.shift * height), round(settings.shift * width)
    if not (down or right or settings.flip):
        return images
    rows = _reflect(_places(height, states) + _between(states, 0, down)[:, None], height)
    columns = _places(width, states)
    if settings.flip:
        mirrored = _draw(states, 2)[:, None] < 1 << (BITS - 1)
        columns = torch.where(mirrored, width - 1 - columns, columns)
    columns = _reflect(columns + _between(states, 1, right)[:, None], width)
    places = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)
    return images.flatten(2).gather(2, places[:, None].expand(-1, 3, -1)).view_as(images)


def _places(size: int, states: Tensor) -> Tensor:
    return torch.arange(size, device=states.device).expand(len(states), size)


def _reflect(places: Tensor, size: int) -> Tensor:
    """Fold positions outside of 0 to size - 1 back, without repeating the border pixel."""
    return (size - 1) - ((size - 1) - places.abs()).abs()


def _mean_grey(images: Tensor) -> Tensor:
    """Mean brightness of each image, rounded, int64 `[b, 1, 1, 1]`."""
    sums = images.flatten(2).sum(2)  # int64, so exact
    weights = torch.tensor(LUMA, device=images.device)
    whole = images.shape[2] * images.shape[3] * ONE
    return (((sums * weights).sum(1) + whole // 2) // whole).view(-1, 1, 1, 1)


def _blend(images: Tensor, factor: Tensor, centre: Tensor | int) -> Tensor:
    """`centre + factor * (image - centre)`, rounded to uint8; factor int64 `[b]` in units of 1/ONE."""
    factors = factor.view(-1, 1, 1, 1).int()
    centres = centre.int() if isinstance(centre, Tensor) else centre
    moved = (images.int() - centres) * factors + ONE // 2
    return ((moved >> 16) + centres).clamp(0, 255).to(torch.uint8)


def _factor(states: Tensor, draw: int, largest: float) -> Tensor:
    return ONE + _between(states, draw, round(largest * ONE))


def _between(states: Tensor, draw: int, largest: int) -> Tensor:
    """A uniform integer from -largest to largest for each state, int64 `[b]`."""
    return ((_draw(states, draw) * (2 * largest + 1)) >> BITS) - largest


def _draw(states: Tensor, number: int) -> Tensor:
    """BITS random bits for each state, independent for each number."""
    return _shifted(_mix(states + _signed(number * GOLDEN)), 64 - BITS)


def _states(indices: Tensor, view: int, seed: int) -> Tensor:
    start = _mix_int(_mix_int(seed + GOLDEN) + view)
    return _mix(_mix(indices + _signed(GOLDEN)) + _signed(start))


def _mix(values: Tensor) -> Tensor:
    """splitmix64's finisher, on int64 that wraps around."""
    values = (values ^ _shifted(values, 30)) * _signed(FACTORS[0])
    values = (values ^ _shifted(values, 27)) * _signed(FACTORS[1])
    return values ^ _shifted(values, 31)


def _mix_int(value: int) -> int:
    value &= 2**64 - 1
    value = (value ^ (value >> 30)) * FACTORS[0] % 2**64
    value = (value ^ (value >> 27)) * FACTORS[1] % 2**64
    return value ^ (value >> 31)


def _shifted(values: Tensor, bits: int) -> Tensor:
    """Shift right without the sign, which torch's int64 has."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    """The int64 with the same 64 bits."""
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value
