"""Mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899) of a batch with itself in reverse order."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from compress.recipe.losses import Mix


def mix_batch(images: Tensor, mix: Mix, rng: np.random.Generator) -> tuple[Tensor, float]:
    """Mix each of `images`, uint8 `[b, 3, h, w]`, with the one at the opposite place of the batch (`images.flip(0)`).

    Returns:
        The mixed images, uint8 `[b, 3, h, w]`, and the share of the first image in each: 1.0 if nothing was mixed.
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
    """Return first and last pixel of a cut of this share of the side, clipped to the image."""
    first, last = centre * length - share * length / 2, centre * length + share * length / 2
    return max(0, round(first)), min(length, round(last))
