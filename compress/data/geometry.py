"""Resize and centre crop of evaluation, with Pillow: the same pixels as torchvision's and timm's eval transforms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from compress.data.source import Pixels
from compress.utils.errors import UsageError
from compress.utils.interpolation import Interpolation

if TYPE_CHECKING:
    from PIL import Image

CropMode = Literal["center", "squash"]
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)
CROP_MODES: tuple[CropMode, ...] = get_args(CropMode)
MAX_ASPECT = 64  # a sliver is cut to this aspect before its resize, which would make it huge


@dataclass(frozen=True)
class Geometry:
    """`Resize(resize)` and `CenterCrop(resolution)` of torchvision on a PIL image.

    With the crop mode `squash` of timm, both sides are resized to `resize`, so the aspect ratio is lost.
    """

    resolution: int  # side of the crop in pixels
    resize: int  # shorter side after the resize in pixels; may be less than `resolution`, which pads with black
    interpolation: Interpolation = "bicubic"  # antialiased, except for `nearest`
    crop_mode: CropMode = "center"

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after the resize; the longer side is rounded down."""
        if self.crop_mode == "squash":
            return self.resize, self.resize
        short = min(height, width)
        return int(self.resize * height / short), int(self.resize * width / short)

    def offset(self, length: int) -> int:
        """Where the crop begins on a side of `length` pixels, halves rounded to even; negative where it is padded."""
        missing = self.resolution - length
        return -(missing // 2) if missing > 0 else round(-missing / 2)

    def render(self, image: Image.Image) -> Pixels:
        """Resize and crop an RGB image to uint8 `[3, resolution, resolution]`."""
        from PIL import Image

        longest = MAX_ASPECT * min(image.size)
        if self.crop_mode == "center" and max(image.size) > longest:
            left, top = (max(side - longest, 0) // 2 for side in image.size)
            image = image.crop((left, top, image.width - left, image.height - top))
        height, width = self.resized(image.height, image.width)
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling[self.interpolation.upper()])
        left, top, side = self.offset(width), self.offset(height), self.resolution
        return np.asarray(image.crop((left, top, left + side, top + side))).transpose(2, 0, 1)


def require_geometry(interpolation: str, crop_mode: str, where: str) -> tuple[Interpolation, CropMode]:
    """Return the interpolation and crop mode of a library's configuration, or refuse one that is not supported.

    timm's `border` and OpenCLIP's `longest` pad images to a square, and timm's `random` is no filter.

    Raises:
        UsageError: names `where`, the value and what is supported.
    """
    for name, value, known in (("interpolation", interpolation, INTERPOLATIONS), ("crop_mode", crop_mode, CROP_MODES)):
        if value not in known:
            supported = ", ".join(known)
            raise UsageError(f"{where}: {name} '{value}' is not supported, only {supported}; choose other weights")
    return interpolation, crop_mode  # type: ignore[return-value]
