"""Distances between the student's projected features and the teacher's embeddings (after arXiv 1412.6550)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from compress.recipe.loss import Loss, Step
from compress.training.losses.common import full_precision, unit

if TYPE_CHECKING:
    from torch import Tensor


class Embedding(Loss):
    """Distance of projected student features from teacher embeddings (after arXiv 1412.6550)."""

    trains_projection: ClassVar[bool] = True
    reads_features: ClassVar[bool] = True

    distance: Literal["cosine", "mse", "smooth_l1"] = "cosine"

    def compute(self, step: Step) -> Tensor:
        assert step.projected is not None
        return DISTANCES[self.distance](step.projected, step.teacher_embeddings)


@full_precision
def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine of the angle between embeddings `[batch, width]`, the mean over images.

    Half the squared distance of the two when they are scaled to length 1 (FitNets' hint, arXiv 1412.6550, on what
    OpenCLIP compares by cosine).
    """
    return 1 - (unit(student) * unit(teacher)).sum(1).mean()


@full_precision
def mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of embeddings `[batch, width]`, the mean over images and numbers."""
    import torch.nn.functional as F

    return F.mse_loss(student, teacher)


@full_precision
def smooth_l1(student: Tensor, teacher: Tensor, beta: float = 1.0) -> Tensor:
    """d^2 / (2 beta) of differences d below `beta`, |d| - beta / 2 of others; the mean over images and numbers."""
    import torch.nn.functional as F

    return F.smooth_l1_loss(student, teacher, beta=beta)


DISTANCES = {"cosine": cosine, "mse": mse, "smooth_l1": smooth_l1}
