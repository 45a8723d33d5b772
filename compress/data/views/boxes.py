"""Random boxes in images: what random-resized-crop keeps and random erasing covers, drawn as torchvision draws them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from compress.data.views.draws import BITS, ONE, Draws

ATTEMPTS = 10
ASPECTS = 1024  # aspect ratios, evenly spaced in their logarithm

Range = tuple[float, float]


@dataclass(frozen=True)
class Boxes:
    """One box per image; int64 `[b]` each, in pixels."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    found: Tensor  # bool: whether one of the attempts fitted; otherwise the box is the whole image


def draw_boxes(draws: Draws, number: int, size: tuple[int, int], area: Range, aspect: Range) -> Boxes:
    """Draw boxes: a share of the area, uniform, and width / height, uniform in its logarithm; the first that fits.

    Products, quotients and square roots of float64 are rounded alike everywhere (IEEE 754). Logarithms and powers are
    not, hence the table of aspect ratios.
    """
    height, width = size
    least, most = (round(share * (1 << BITS)) for share in area)
    table = torch.tensor(_aspects(aspect), dtype=torch.float64, device=draws.states.device)
    attempts = number + 2 * torch.arange(ATTEMPTS, device=draws.states.device)
    pixels = (least + draws.below(attempts, most - least + 1)).double() * (height * width / (1 << BITS))
    ratios = table[draws.below(attempts + 1, ASPECTS)]
    rows, columns = (pixels / ratios).sqrt().round().long(), (pixels * ratios).sqrt().round().long()
    fits = (rows >= 1) & (rows <= height) & (columns >= 1) & (columns <= width)
    found, first = fits.any(1), fits.int().argmax(1, keepdim=True)
    box_height = torch.where(found, rows.gather(1, first)[:, 0], height)
    box_width = torch.where(found, columns.gather(1, first)[:, 0], width)
    top = draws.below(number + 2 * ATTEMPTS, height - box_height + 1)
    left = draws.below(number + 2 * ATTEMPTS + 1, width - box_width + 1)
    return Boxes(top, left, box_height, box_width, found)


@lru_cache
def _aspects(limits: Range) -> list[float]:
    """Aspect ratios in multiples of 1/ONE, so that no mathematics library's last digit enters."""
    low, high = (math.log(limit) for limit in limits)
    return [round(math.exp(low + (high - low) * step / (ASPECTS - 1)) * ONE) / ONE for step in range(ASPECTS)]
