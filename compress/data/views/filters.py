"""Filters of views on pixels int32 `[b, 3, h, w]` in 0 to 255: Gaussian blur and sharpness, in fixed point."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from compress.data.views.draws import ONE
from compress.data.views.geometry import reflect

SIGMAS = 256  # widths of the blur, evenly spaced between its limits


def blur(pixels: Tensor, chosen: Tensor, step: Tensor, sigma: tuple[float, float]) -> Tensor:
    """Blur the chosen images with a Gaussian; borders are reflected.

    Args:
        chosen: bool `[b]`.
        step: int64 `[b]` in 0 to SIGMAS - 1: which of the widths between `sigma`'s limits.
        sigma: Smallest and largest standard deviation in pixels. The kernel ends at three times the largest.
    """
    which = chosen.nonzero().flatten()
    if not len(which):
        return pixels
    kernels = torch.tensor(_kernels(sigma), dtype=torch.int32, device=pixels.device)[step[which]]
    blurred = _convolved(pixels[which], kernels, 2).bitwise_right_shift_(10)  # 14 bits: 16 more fit into an int32
    blurred = _convolved(blurred, kernels, 3).add_(1 << 21).bitwise_right_shift_(22)
    pixels[which] = blurred
    return pixels


def _convolved(values: Tensor, kernels: Tensor, axis: int) -> Tensor:
    """Convolve along an axis with symmetric kernels int32 `[b, r + 1]`, from the centre outwards."""
    radius, size = kernels.shape[1] - 1, values.shape[axis]
    around = reflect(torch.arange(-radius, size + radius, device=values.device), size).clamp_(0, size - 1)
    padded = values.index_select(axis, around)
    out = values * kernels[:, 0].view(-1, 1, 1, 1)
    for distance in range(1, radius + 1):
        both = padded.narrow(axis, radius - distance, size) + padded.narrow(axis, radius + distance, size)
        out += both.mul_(kernels[:, distance].view(-1, 1, 1, 1))
    return out


@lru_cache
def _kernels(sigma: tuple[float, float]) -> list[list[int]]:
    """Half kernels that sum to ONE over both sides; a table, since exponentials differ between devices."""
    radius = math.ceil(3 * sigma[1])
    kernels = []
    for step in range(SIGMAS):
        width = sigma[0] + (sigma[1] - sigma[0]) * step / (SIGMAS - 1)
        weights = [math.exp(-0.5 * (distance / width) ** 2) for distance in range(radius + 1)]
        side = [round(weight * ONE / (2 * sum(weights) - weights[0])) for weight in weights[1:]]
        kernels.append([ONE - 2 * sum(side), *side])
    return kernels


def sharpness(pixels: Tensor, factor: Tensor) -> Tensor:
    """Multiply the distance to a smoothed image by a factor, int64 `[b]` in units of 1/ONE; the border stays.

    The smoothed image is that of PIL: 3 x 3 pixels, the one in the middle five times.
    """
    height, width = pixels.shape[2:]
    if height <= 2 or width <= 2:
        return pixels
    rows = pixels[:, :, :-2] + pixels[:, :, 1:-1] + pixels[:, :, 2:]
    middle = pixels[..., 1:-1, 1:-1]
    smooth = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * middle
    smooth = (smooth + 6).mul_(40330).bitwise_right_shift_(19)  # over 13, rounded
    factor = factor.int().view(-1, 1, 1, 1)
    blended = (middle * factor).add_(smooth.mul_(ONE - factor)).add_(ONE // 2)
    pixels[..., 1:-1, 1:-1] = blended.bitwise_right_shift_(16).clamp_(0, 255)
    return pixels
