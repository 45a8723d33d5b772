"""Relational knowledge distillation: distances and angles between images (arXiv 1904.05068)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from compress.recipe.loss import Loss, Step
from compress.training.losses.common import full_precision, unit

if TYPE_CHECKING:
    from torch import Tensor


class RkdDistance(Loss):
    """Relational distillation of distances between images (arXiv 1904.05068)."""

    reads_features: ClassVar[bool] = True

    def compute(self, step: Step) -> Tensor:
        return rkd_distance(step.features, step.teacher_embeddings)

    def macs(self, images: int, features: int, width: int) -> int:
        return images**2 * (3 * features + width)  # backward to both images of a pair

    def idle(self, batch: int, images: int) -> str | None:
        return _too_few(batch, 2)


class RkdAngle(Loss):
    """Relational distillation of angles between images (arXiv 1904.05068)."""

    reads_features: ClassVar[bool] = True

    def compute(self, step: Step) -> Tensor:
        return rkd_angle(step.features, step.teacher_embeddings)

    def macs(self, images: int, features: int, width: int) -> int:
        return images**3 * (3 * features + width)  # backward to both factors

    def idle(self, batch: int, images: int) -> str | None:
        return _too_few(batch, 3)


@full_precision
def rkd_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Relational distillation of distances: Huber loss (delta 1) of those of all pairs of images, arXiv 1904.05068.

    Embeddings are `[batch, width]`, where the widths of student and teacher may differ. The distances of each side are
    divided by the mean of its nonzero ones. As in the authors' code the mean is over batch^2 pairs, those of an image
    with itself (0) included. A single image gives 0.
    """
    import torch.nn.functional as F

    return F.smooth_l1_loss(_distances(student), _distances(teacher))


@full_precision
def rkd_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """Relational distillation of angles: Huber loss (delta 1) of their cosines, arXiv 1904.05068.

    Embeddings are `[batch, width]`, where the widths of student and teacher may differ. For images a, b, c it is the
    cosine of the angle at a between the differences to b and to c, 0 if one of these is a zero vector. As in the
    authors' code the mean is over all batch^3 triples. It takes memory for batch^2 (batch + width) numbers. One or two
    images give 0.
    """
    import torch.nn.functional as F

    return F.smooth_l1_loss(_angles(student), _angles(teacher))


def _too_few(batch: int, needed: int) -> str | None:
    if batch >= needed:
        return None
    return f"it compares {needed} images of a step, and a device has {batch}; raise `batch` to {needed} per device"


def _distances(x: Tensor) -> Tensor:
    import torch

    # Not by matrix products: differences of squares make the distances of equal images nonzero.
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    mean = distances.sum() / (distances > 0).sum().clamp_min(1)
    return distances / torch.where(mean > 0, mean, 1.0)


def _angles(x: Tensor) -> Tensor:
    directions = unit(x[None] - x[:, None])
    return directions @ directions.transpose(1, 2)
