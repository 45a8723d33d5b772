"""DIST: correlation instead of divergence (arXiv 2205.10536)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from compress.recipe.loss import Loss, Step, Temperature
from compress.training.losses.common import full_precision, one_if_constant

if TYPE_CHECKING:
    from torch import Tensor


class Dist(Loss):
    """Pearson correlation of predictions, per image and per class (DIST, arXiv 2205.10536)."""

    trains_classifier: ClassVar[bool] = True

    temperature: Temperature = Temperature.constant(1.0)
    beta: float = Field(1.0, ge=0, description="weight of the relations between classes")
    gamma: float = Field(1.0, ge=0, description="weight of the relations between images")

    def compute(self, step: Step) -> Tensor:
        return dist(step.logits, step.teacher_logits, self.temperature.at(step.progress), self.beta, self.gamma)


@full_precision
def dist(student: Tensor, teacher: Tensor, temperature: float = 1.0, beta: float = 1.0, gamma: float = 1.0) -> Tensor:
    """DIST: T^2 (beta inter + gamma intra) of the softmaxes at the temperature, arXiv 2205.10536.

    Both logits are `[batch, classes]`. inter is the mean of 1 - Pearson's correlation of student and teacher over the
    images (rows), intra that over the classes (columns), which is 0 for a single image. Constant rows and columns
    correlate with nothing (1). T^2, and 1e-8 added to the correlations' denominator, are from the authors' code.
    """
    s, t = (student / temperature).softmax(1), (teacher / temperature).softmax(1)
    relations = beta * (1 - _correlations(s, t).mean())
    if len(s) > 1:
        relations = relations + gamma * (1 - _correlations(s.T, t.T).mean())
    return relations * temperature**2


def _correlations(student: Tensor, teacher: Tensor) -> Tensor:
    s, t = student - student.mean(1, keepdim=True), teacher - teacher.mean(1, keepdim=True)
    scale = s.norm(dim=1, keepdim=True) * t.norm(dim=1, keepdim=True) + 1e-8
    return (s * t / one_if_constant(scale, student)).sum(1)
