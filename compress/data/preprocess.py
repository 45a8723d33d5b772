"""Preprocessing: from stored pixels to the input of a network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from compress.data.geometry import CropMode, Geometry, Interpolation


@dataclass(frozen=True)
class Preprocess:
    """Resize the shorter side antialiased, crop the centre, normalise, as OpenCLIP, timm and torchvision do with PIL.

    Bicubic and bilinear run in torch, within one level of PIL; the other filters, which torch has not or not
    antialiased, run in PIL on the CPU.
    """

    resolution: int  # side of the output in pixels
    mean: tuple[float, float, float]  # mean of each channel, on the scale 0 to 1
    std: tuple[float, float, float]  # standard deviation of each channel, on the scale 0 to 1
    interpolation: Interpolation = "bicubic"  # interpolation of the resize
    resize: int | None = None  # shorter side after the resize and before the crop; None for `resolution`
    crop_mode: CropMode = "center"  # `squash` resizes both sides to `resize`, whatever the aspect ratio

    @property
    def geometry(self) -> Geometry:
        """Resize and crop, without the normalisation."""
        return Geometry(self.resolution, self.resize or self.resolution, self.interpolation, self.crop_mode)

    def __call__(self, images: Tensor) -> Tensor:
        """Preprocess a batch on its own device: uint8 `[b, 3, h, w]` to float32 `[b, 3, resolution, resolution]`."""
        pixels = self._square(images)
        scale, offset = _affine(self.mean, self.std, pixels.device)
        return pixels * scale + offset

    def _square(self, images: Tensor) -> Tensor:
        geometry, side, (height, width) = self.geometry, self.resolution, images.shape[-2:]
        size = geometry.resized(height, width)
        pixels = images.float()
        if size != (height, width):
            if self.interpolation not in ("bicubic", "bilinear"):
                return _rendered(images, geometry)
            # PIL resizes rows, then columns, and rounds to 0 to 255 after each.
            pixels = self._resized(self._resized(pixels, height, size[1]), *size)
            height, width = size
        top, left = geometry.offset(height), geometry.offset(width)
        if min(top, left) < 0:
            return F.pad(pixels, (-left, left + side - width, -top, top + side - height))  # negative ones crop
        return pixels[..., top : top + side, left : left + side]

    def _resized(self, pixels: Tensor, height: int, width: int) -> Tensor:
        mode = self.interpolation
        resized = F.interpolate(pixels, (height, width), mode=mode, antialias=True, align_corners=False)
        return resized.add_(0.5).floor_().clamp_(0, 255)  # halves go up, as PIL's do


def _rendered(images: Tensor, geometry: Geometry) -> Tensor:
    """Resize and crop uint8 `[b, 3, h, w]` in PIL, to float32 on the same device."""
    arrays = images.cpu().permute(0, 2, 3, 1).contiguous().numpy()
    return torch.from_numpy(np.stack([geometry.render(Image.fromarray(array)) for array in arrays])).to(images).float()


@cache
def _affine(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Scale and offset `[3, 1, 1]` that map 0 to 255 to normalised values."""
    means, stds = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (mean, std))
    return (1 / (255 * stds)).float().to(device), (-means / stds).float().to(device)
