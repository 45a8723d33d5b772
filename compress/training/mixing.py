"""Images mixed in pairs: mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from compress.recipe.losses import Mix


def mixed(images: Tensor, mix: Mix, rng: np.random.Generator) -> tuple[Tensor, float]:
    """Mix each image of a batch with the one at the opposite place (`images.flip(0)`).

    Args:
        images: uint8 `[b, 3, h, w]`.

    Returns:
        The mixed images, uint8, and the share of the first image in each: 1.0 where the batch is left as it is.
    """
    if rng.random() >= mix.probability:
        return images, 1.0
    share = float(rng.beta(mix.alpha, mix.alpha))
    if mix.kind == "mixup":
        blend = images.float().lerp_(images.flip(0).float(), 1 - share)
        return blend.round_().to(torch.uint8), share
    height, width = images.shape[-2:]
    side = (1 - share) ** 0.5
    top, bottom = _span(rng.random(), side, height)
    left, right = _span(rng.random(), side, width)
    cut = images.clone()
    cut[:, :, top:bottom, left:right] = images.flip(0)[:, :, top:bottom, left:right]
    return cut, 1 - (bottom - top) * (right - left) / (height * width)


def _span(centre: float, share: float, length: int) -> tuple[int, int]:
    """Where a cut of this share of the side begins and ends; what would lie outside of the image is left out."""
    first, last = centre * length - share * length / 2, centre * length + share * length / 2
    return max(0, round(first)), min(length, round(last))
