"""A loss as a contributor would add it: this file, and a line in `compress.registry.LOSSES`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from compress.recipe.loss import Loss, Step

if TYPE_CHECKING:
    from torch import Tensor


class Toy(Loss):
    """Squared difference of logits (arXiv 1312.6184)."""

    trains_classifier: ClassVar[bool] = True

    scale: float = Field(1.0, gt=0, description="logits are divided by it")

    def compute(self, step: Step) -> Tensor:
        return ((step.logits - step.teacher_logits).float() / self.scale).square().mean()
