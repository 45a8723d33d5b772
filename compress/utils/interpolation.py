"""Names of the filters that images are resized with: those of Pillow. Imports nothing, as artifacts need it too."""

from __future__ import annotations

from typing import Literal

Interpolation = Literal["bicubic", "bilinear", "nearest", "box", "hamming", "lanczos"]
