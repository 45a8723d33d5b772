"""Decoupled knowledge distillation (arXiv 2203.08679)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from compress.recipe.loss import Loss, Step, Temperature
from compress.training.losses.common import full_precision, kl_divergence

if TYPE_CHECKING:
    from torch import Tensor


class Dkd(Loss):
    """Decoupled knowledge distillation (arXiv 2203.08679); the teacher's top class replaces missing labels."""

    trains_classifier: ClassVar[bool] = True

    temperature: Temperature = Temperature.constant(4.0)
    alpha: float = Field(1.0, ge=0, description="weight of the target class against the others")
    beta: float = Field(8.0, ge=0, description="weight of the other classes among themselves")

    def compute(self, step: Step) -> Tensor:
        target = step.labels.where(step.labels >= 0, step.teacher_logits.argmax(1))
        temperature = self.temperature.at(step.progress)
        return dkd(step.logits, step.teacher_logits, target, temperature, self.alpha, self.beta)


@full_precision
def dkd(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: float, alpha: float = 1.0, beta: float = 8.0
) -> Tensor:
    """Decoupled knowledge distillation: T^2 (alpha TCKD + beta NCKD), arXiv 2203.08679.

    TCKD is the divergence of (target, all other classes together), NCKD that of the other classes among themselves.
    `kd` is alpha = 1 with beta = 1 - the teacher's probability of the target, image by image. Logits are `[batch,
    classes]` of two classes or more, `target` is int64 `[batch]`, each a class index (no -1).
    """
    import torch
    import torch.nn.functional as F

    classes = student.shape[1]
    is_target = F.one_hot(target, classes).bool()

    def parts(logits: Tensor) -> tuple[Tensor, Tensor]:
        one, others = logits[is_target] / temperature, logits[~is_target].view(-1, classes - 1) / temperature
        return torch.stack([one, others.logsumexp(1)], 1), others

    (student_binary, student_others), (teacher_binary, teacher_others) = parts(student), parts(teacher)
    tckd, nckd = kl_divergence(student_binary, teacher_binary), kl_divergence(student_others, teacher_others)
    return (alpha * tckd + beta * nckd) * temperature**2
