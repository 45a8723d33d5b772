"""Contrastive representation distillation (arXiv 1910.10699)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from compress.recipe.loss import Loss, Step
from compress.training.losses.common import full_precision, unit

if TYPE_CHECKING:
    from torch import Tensor


class Crd(Loss):
    """Contrastive representation distillation (arXiv 1910.10699); negatives are cached embeddings."""

    trains_projection: ClassVar[bool] = True
    reads_features: ClassVar[bool] = True
    cached_only: ClassVar[str | None] = "samples negatives from cached embeddings"

    temperature: float = Field(0.07, gt=0)
    negatives: int = Field(4096, ge=1, description="embeddings of other images, drawn anew for each step")

    def compute(self, step: Step) -> Tensor:
        assert step.projected is not None and step.sample_negatives is not None
        negatives = step.sample_negatives(self.negatives)
        return crd(step.projected, step.teacher_embeddings, negatives, self.temperature)

    def macs(self, images: int, features: int, width: int) -> int:
        return 2 * images * self.negatives * width  # backward to the student's side only

    def idle(self, batch: int, images: int) -> str | None:
        if batch < images:
            return None
        return f"all {images} train images are in each step, which leaves no negatives; lower `batch`"


@full_precision
def crd(student: Tensor, teacher: Tensor, negatives: Tensor, temperature: float = 0.07) -> Tensor:
    """Contrastive representation distillation by noise-contrastive estimation, arXiv 1910.10699 (eq. 17 to 19).

    `student` and `teacher` are embeddings `[batch, width]`, `negatives` `[count, width]` the teacher's of other images.
    With e = exp(cosine / T) the critic h = e / (e + count Z) is the probability that an embedding is the teacher's of
    the same image, and the loss is -log h(teacher) - the sum over the negatives of log(1 - h). Z is the mean of e over
    the batch's negatives, taken as a constant. Eq. 19 has count / M in place of count Z, M being the number of train
    images, and the authors' code divides e by M Z, so that M cancels; without Z the negatives would outweigh the one
    positive `count` times.

    Unlike the authors' code, which adds the loss with the teacher as the anchor, holds both sides in memory banks of
    running means and fixes Z in the first step, the student is the only anchor, negatives are the cached embeddings
    themselves, the same for all images of the batch, and Z is that of the step. The teacher's side is not projected.
    """
    import torch.nn.functional as F

    anchors = unit(student)
    positive = (anchors * unit(teacher)).sum(1) / temperature
    negative = anchors @ unit(negatives).T / temperature
    noise = negative.detach().flatten().logsumexp(0) - math.log(len(negative))  # log(count Z)
    return (F.softplus(noise - positive) + F.softplus(negative - noise).sum(1)).mean()
