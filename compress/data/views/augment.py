"""Operations of RandAugment and TrivialAugmentWide, with torchvision's magnitudes; one of them per image.

RandAugment: Cubuk et al. 2020, arXiv 1909.13719. TrivialAugment: Müller & Hutter 2021, arXiv 2103.10158. Interpolation
is bilinear, what comes from outside is black.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor

from compress.data.views import colour, filters, geometry
from compress.data.views.draws import ONE

STEPS = 30  # magnitudes are 0 to STEPS


@dataclass(frozen=True)
class Operation:
    """An operation, and its amounts for the magnitudes 0 to STEPS; none where it has no magnitude."""

    apply: Callable[..., Tensor]  # of pixels int32 `[b, 3, h, w]` and, if there are any, amounts int64 `[b]`
    amounts: tuple[int, ...] = ()
    signed: bool = False  # whether amounts are negative in one view of two
    base: int = 0  # added to the signed amount


@dataclass(frozen=True)
class Space:
    """The largest magnitudes of a method."""

    shear: float
    translate: tuple[int, int] | int  # share of the side as a fraction, or pixels
    degrees: float
    enhance: float
    posterized: int  # bits that the largest magnitude removes


SPACES = {
    "randaugment": Space(0.3, (150, 331), 30.0, 0.9, 4),
    "trivialaugment": Space(0.99, 32, 135.0, 0.99, 6),
}


@lru_cache
def operations(method: str, height: int, width: int) -> tuple[Operation, ...]:
    """Return the operations of a method for images of a size, in torchvision's order."""
    space = SPACES[method]
    shear = tuple(round(space.shear * step / STEPS * (1 << geometry.MAP_BITS)) for step in range(STEPS + 1))
    enhance = tuple(round(space.enhance * step / STEPS * ONE) for step in range(STEPS + 1))
    posterize = tuple(8 - round(space.posterized * step / STEPS) for step in range(STEPS + 1))
    solarize = tuple(-(-255 * (STEPS - step) // STEPS) for step in range(STEPS + 1))
    turn = partial(geometry.rotate, degrees=space.degrees, steps=STEPS)
    return (
        Operation(lambda pixels: pixels),
        Operation(geometry.shear_x, shear, signed=True),
        Operation(geometry.shear_y, shear, signed=True),
        Operation(geometry.translate_x, _pixels(space, width), signed=True),
        Operation(geometry.translate_y, _pixels(space, height), signed=True),
        Operation(turn, tuple(range(STEPS + 1)), signed=True),
        Operation(colour.brightness, enhance, signed=True, base=ONE),
        Operation(colour.saturation, enhance, signed=True, base=ONE),
        Operation(colour.contrast, enhance, signed=True, base=ONE),
        Operation(filters.sharpness, enhance, signed=True, base=ONE),
        Operation(colour.posterize, posterize),
        Operation(colour.solarize, solarize),
        Operation(colour.autocontrast),
        Operation(colour.equalize),
    )


def _pixels(space: Space, side: int) -> tuple[int, ...]:
    if isinstance(space.translate, int):
        return tuple(space.translate * step // STEPS for step in range(STEPS + 1))
    share, of = space.translate
    return tuple(share * side * step // (of * STEPS) for step in range(STEPS + 1))


def augment(pixels: Tensor, chosen: Tensor, magnitude: Tensor, negative: Tensor, method: str) -> Tensor:
    """Apply one operation to each image.

    Args:
        chosen: Which operation, int64 `[b]`.
        magnitude: int64 `[b]` in 0 to STEPS.
        negative: bool `[b]`, for operations with a direction.
    """
    table = operations(method, pixels.shape[2], pixels.shape[3])
    for number in sorted(set(chosen.tolist())):
        operation, which = table[number], (chosen == number).nonzero().flatten()
        amounts = torch.tensor(operation.amounts, dtype=torch.int64, device=pixels.device)
        arguments = []
        if operation.amounts:
            amount = amounts[magnitude[which]]
            arguments = [
                operation.base + (torch.where(negative[which], -amount, amount) if operation.signed else amount)
            ]
        pixels[which] = operation.apply(pixels[which], *arguments)
    return pixels
