"""Preprocessing: from stored pixels to the input of a network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from compress.data.geometry import CropMode, Geometry
from compress.utils.interpolation import Interpolation


@dataclass(frozen=True)
class Preprocess:
    """Resize the shorter side antialiased, crop the centre, normalise, as OpenCLIP, timm and torchvision do with PIL.

    Bicubic and bilinear run in torch, within one level of PIL. Filters that torch does not have, or not antialiased,
    run in PIL on the CPU.
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

    @property
    def from_originals(self) -> bool:
        """Whether it is meant for original pictures, and not for the squares that are stored of them."""
        return self.resize is not None or self.crop_mode != "center"

    def on_stored(self) -> Preprocess:
        """Return the preprocessing of stored squares and views of them, which are resized without a crop."""
        return replace(self, resize=None, crop_mode="center")

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
            # Pillow resizes such tall images vertically first since 13.0.
            tall = size[0] < height and height - size[0] > 2 * (width - size[1])
            if tall or self.interpolation not in ("bicubic", "bilinear"):
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


def describe(preprocess: Preprocess) -> str:
    """Describe resize, crop and normalisation on one line."""
    values, resize = _values(preprocess), preprocess.geometry.resize
    sides = f"{resize}x{resize}" if preprocess.crop_mode == "squash" else resize
    crop = "" if resize == preprocess.resolution else f"CenterCrop {preprocess.resolution}, "
    return f"Resize {sides} {preprocess.interpolation}, {crop}mean {values['mean']}, std {values['std']}"


def preprocess_remarks(own: Preprocess, published: Preprocess | None) -> list[str]:
    """List how preprocessing differs from the published weights' (None: unknown), except for the resolution."""
    if published is None:
        return []
    values, theirs = _values(own), _values(published)
    scale = own.resolution / published.resolution
    if abs(own.geometry.resize - published.geometry.resize * scale) <= 1:  # the same share, rounded
        del values["crop_pct"]
    return [
        f"{name} {value} is not that of the published weights; set {name}: {theirs[name]}"
        for name, value in values.items()
        if value != theirs[name]
    ]


def _values(preprocess: Preprocess) -> dict[str, str]:
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (preprocess.mean, preprocess.std))
    return {
        "mean": f"[{mean}]",
        "std": f"[{std}]",
        "interpolation": preprocess.interpolation,
        "crop_mode": preprocess.crop_mode,
        "crop_pct": f"{preprocess.resolution / preprocess.geometry.resize:.3g}",
    }
