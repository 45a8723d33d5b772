"""Attention transfer (arXiv 1612.03928)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.recipe.loss import Maps, Step
from compress.training.losses.common import full_precision, same_size

if TYPE_CHECKING:
    from torch import Tensor


class Attention(Maps):
    """Attention transfer between feature maps (arXiv 1612.03928)."""

    def compute(self, step: Step) -> Tensor:
        assert step.maps is not None
        return attention_transfer(*step.maps)


@full_precision
def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Attention transfer: squared difference of attention maps, arXiv 1612.03928.

    An image's attention map is the mean of its squared activations over the channels, flattened and scaled to length
    1. The mean is over images and places, as in the authors' code (the paper has a norm). Maps without activation
    stay 0. Maps are `[batch, channels, height, width]`, of any sizes: the larger are average-pooled to the smaller.
    """
    import torch.nn.functional as F

    s, t = same_size(student, teacher)
    return F.mse_loss(_attention(s), _attention(t))


def _attention(maps: Tensor) -> Tensor:
    import torch.nn.functional as F

    return F.normalize(maps.square().mean(1).flatten(1))
