"""Preprocessing: from stored pixels to the input of a network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Preprocess:
    """Resize the shorter side antialiased, crop the centre, normalise, as OpenCLIP and torchvision do with PIL."""

    resolution: int  # side of the output in pixels
    mean: tuple[float, float, float]  # mean of each channel, on the scale 0 to 1
    std: tuple[float, float, float]  # standard deviation of each channel, on the scale 0 to 1
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"  # interpolation of the resize

    def __call__(self, images: Tensor) -> Tensor:
        """Preprocess a batch on its own device: uint8 `[b, 3, h, w]` to float32 `[b, 3, resolution, resolution]`."""
        pixels = self._square(images.float())
        scale, offset = _affine(self.mean, self.std, pixels.device)
        return pixels * scale + offset

    def _square(self, pixels: Tensor) -> Tensor:
        side, (height, width) = self.resolution, pixels.shape[-2:]
        short = min(height, width)
        if short != side:
            # The longer side is rounded down, as torchvision's Resize does.
            size = int(side * height / short), int(side * width / short)
            # PIL resizes rows, then columns, and rounds to 0 to 255 after each.
            pixels = self._resized(self._resized(pixels, height, size[1]), *size)
            height, width = size
        top, left = round((height - side) / 2), round((width - side) / 2)
        return pixels[..., top : top + side, left : left + side]

    def _resized(self, pixels: Tensor, height: int, width: int) -> Tensor:
        mode = self.interpolation
        resized = F.interpolate(pixels, (height, width), mode=mode, antialias=True, align_corners=False)
        return resized.add_(0.5).floor_().clamp_(0, 255)  # halves go up, as PIL's do


@cache
def _affine(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Scale and offset `[3, 1, 1]` that map 0 to 255 to normalised values."""
    means, stds = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (mean, std))
    return (1 / (255 * stds)).float().to(device), (-means / stds).float().to(device)
