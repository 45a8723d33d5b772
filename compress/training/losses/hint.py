"""Feature hints, FitNets (arXiv 1412.6550)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from compress.recipe.loss import Maps, Step
from compress.training.losses.common import full_precision, same_size

if TYPE_CHECKING:
    from torch import Tensor


class Hint(Maps):
    """Squared difference of feature maps, the student's through a 1x1 convolution (FitNets, arXiv 1412.6550)."""

    trains_adapter: ClassVar[bool] = True

    def compute(self, step: Step) -> Tensor:
        assert step.maps is not None
        return hint(*step.maps)


@full_precision
def hint(student: Tensor, teacher: Tensor) -> Tensor:
    """FitNets' hint: squared difference, arXiv 1412.6550, the mean over images, channels and places.

    The paper has half the sum. Maps are `[batch, channels, height, width]` with as many channels; the larger are
    average-pooled to the smaller.
    """
    import torch.nn.functional as F

    return F.mse_loss(*same_size(student, teacher))
