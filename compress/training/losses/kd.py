"""Knowledge distillation (arXiv 1503.02531), and its form with standardized logits (arXiv 2403.01427)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from compress.recipe.loss import Loss, Step, Temperature
from compress.training.losses.common import full_precision, kl_divergence, one_if_constant

if TYPE_CHECKING:
    from torch import Tensor


class Kd(Loss):
    """Knowledge distillation, T^2 KL of teacher and student (arXiv 1503.02531)."""

    trains_classifier: ClassVar[bool] = True

    temperature: Temperature = Field(Temperature.constant(2.0), description="logits are divided by it")
    standardize: bool = Field(False, description="z-score the logits of each image first (arXiv 2403.01427)")

    def compute(self, step: Step) -> Tensor:
        loss = kd_standardized if self.standardize else kd
        return loss(step.logits, step.teacher_logits, self.temperature.at(step.progress))


@full_precision
def kd(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Knowledge distillation: T^2 KL(softmax(teacher / T) || softmax(student / T)), arXiv 1503.02531.

    Both logits are `[batch, classes]`. T^2 keeps the size of the gradients when T changes.
    """
    return kl_divergence(student / temperature, teacher / temperature) * temperature**2


@full_precision
def kd_standardized(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """`kd` of logits with mean 0 and standard deviation 1 per image, arXiv 2403.01427.

    The deviation is the sample's (classes - 1) with 1e-7 added, as in the authors' code, which the published results
    come from; Algorithm 1 of the paper divides by the number of classes. The two differ as temperatures would.
    """
    return kd(_standardized(student), _standardized(teacher), temperature)


def _standardized(logits: Tensor) -> Tensor:
    return (logits - logits.mean(1, keepdim=True)) / one_if_constant(logits.std(1, keepdim=True) + 1e-7, logits)
