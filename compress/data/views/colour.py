"""Colour operations of views on pixels int32 `[b, 3, h, w]` in 0 to 255, with one parameter per image; in place."""

from __future__ import annotations

import torch
from torch import Tensor

from compress.data.views.draws import ONE

LUMA = (19595, 38470, 7471)  # ITU-R 601 weights of R, G, B times ONE, as PIL uses them
SEXTANT_BITS = 12
SEXTANT = 1 << SEXTANT_BITS  # a sixth of the colour circle
TURN = 6 * SEXTANT


def brightness(pixels: Tensor, factor: Tensor) -> Tensor:
    """Multiply by a factor, int64 `[b]` in units of 1/ONE."""
    return _blend(pixels, factor, ONE // 2)


def contrast(pixels: Tensor, factor: Tensor) -> Tensor:
    """Multiply the distance to the mean grey by a factor, int64 `[b]` in units of 1/ONE."""
    sums = pixels.flatten(2).sum(2, dtype=torch.int32).long()  # below 2**31 up to 2900 x 2900 pixels
    weights = torch.tensor(LUMA, device=pixels.device)
    whole = pixels.shape[2] * pixels.shape[3] * ONE
    mean = ((sums * weights).sum(1) + whole // 2).div(whole, rounding_mode="floor")
    return _blend(pixels, factor, _each(mean * (ONE - factor) + ONE // 2))


def saturation(pixels: Tensor, factor: Tensor) -> Tensor:
    """Multiply the distance to the pixel's grey by a factor, int64 `[b]` in units of 1/ONE."""
    rest = grey(pixels).mul_(_each(ONE - factor)).add_(ONE // 2)
    return _blend(pixels, factor, rest)


def grey(pixels: Tensor) -> Tensor:
    """Return the luma of each pixel, int32 `[b, 1, h, w]`."""
    red, green, blue = (pixels[:, channel, None] for channel in range(3))
    luma = (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])
    return luma.add_(ONE // 2).bitwise_right_shift_(16)


def grayscale(pixels: Tensor, chosen: Tensor) -> Tensor:
    """Make the chosen images grey; bool `[b]`."""
    return torch.where(chosen.view(-1, 1, 1, 1), grey(pixels), pixels)


def hue(pixels: Tensor, turned: Tensor) -> Tensor:
    """Turn the hue, keeping the largest and the smallest channel; int64 `[b]` in units of 1/TURN of the circle.

    Between -TURN / 2 and TURN / 2. The one quotient is of float32 integers, which IEEE 754 rounds alike everywhere.
    """
    red, green, blue = pixels.unbind(1)
    low, high = pixels.aminmax(dim=1)
    chroma = high - low
    at_red, at_green = high == red, high == green
    ahead = torch.where(at_red, green - blue, torch.where(at_green, blue - red, red - green))
    sextant = torch.where(at_red, 0, torch.where(at_green, 2 * SEXTANT, 4 * SEXTANT)).int()
    angle = ((ahead * SEXTANT).float() / chroma.clamp(min=1)).round_().int().add_(sextant)
    angle = _wrap(angle.add_(turned.int().view(-1, 1, 1)))
    for channel, offset in enumerate((5, 3, 1)):
        place = _wrap(angle + offset * SEXTANT)
        down = torch.minimum(place, 4 * SEXTANT - place).clamp_(0, SEXTANT)
        value = (high * SEXTANT).sub_(down.mul_(chroma)).add_(SEXTANT // 2)
        pixels[:, channel] = value.bitwise_right_shift_(SEXTANT_BITS)
    return pixels


def posterize(pixels: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest bits of each value; int64 `[b]`, 1 to 8."""
    return pixels.bitwise_and_(_each(256 - (256 >> bits)))


def solarize(pixels: Tensor, threshold: Tensor) -> Tensor:
    """Invert values of at least the threshold, int64 `[b]`."""
    return torch.where(pixels >= _each(threshold), 255 - pixels, pixels)


def autocontrast(pixels: Tensor) -> Tensor:
    """Stretch each channel to 0 to 255; one with a single value stays."""
    low, high = (value.view(-1, 3, 1, 1).long() for value in pixels.flatten(2).aminmax(dim=2))
    span = high - low
    scale = torch.where(span > 0, (255 * ONE + span - 1) // span.clamp(min=1), ONE)
    low = torch.where(span > 0, low, 0)
    return pixels.sub_(low.int()).mul_(scale.int()).bitwise_right_shift_(16).clamp_(0, 255)


def equalize(pixels: Tensor) -> Tensor:
    """Make the histogram of each channel even, with PIL's look-up table."""
    values = pixels.flatten(2).long()
    counts = torch.zeros(*values.shape[:2], 256, dtype=torch.int64, device=pixels.device)
    counts.scatter_add_(2, values, torch.ones_like(values))
    last = counts.gather(2, pixels.flatten(2).amax(2, keepdim=True).long())
    step = (values.shape[2] - last) // 255
    table = ((counts.cumsum(2) - counts + step // 2) // step.clamp(min=1)).clamp_(0, 255)
    table = torch.where(step > 0, table, torch.arange(256, device=pixels.device))
    return table.gather(2, values).view_as(pixels).int()


def _blend(pixels: Tensor, factor: Tensor, rest: Tensor | int) -> Tensor:
    """`factor * pixel + rest` in units of 1/ONE, rounded down to 0 to 255."""
    return pixels.mul_(_each(factor)).add_(rest).bitwise_right_shift_(16).clamp_(0, 255)


def _each(values: Tensor) -> Tensor:
    """One number per image, int32 `[b, 1, 1, 1]`."""
    return values.int().view(-1, 1, 1, 1)


def _wrap(angle: Tensor) -> Tensor:
    """Bring an angle that is less than a turn outside of 0 to TURN back."""
    angle = torch.where(angle < 0, angle + TURN, angle)
    return torch.where(angle >= TURN, angle - TURN, angle)
