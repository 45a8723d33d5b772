"""Cross-entropy with the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from compress.recipe.loss import Loss, Step
from compress.training.losses.common import full_precision

if TYPE_CHECKING:
    from torch import Tensor


class CrossEntropy(Loss):
    """Cross-entropy with the labels, on labelled images only."""

    trains_classifier: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = True

    def compute(self, step: Step) -> Tensor:
        return labelled_cross_entropy(step.logits, step.labels, step.label_smoothing)


@full_precision
def labelled_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits `[batch, classes]` over the images whose label, int64 `[batch]`, is not -1; else 0."""
    import torch.nn.functional as F

    labelled = labels >= 0
    if not bool(labelled.any()):
        return logits.sum() * 0.0
    return F.cross_entropy(logits[labelled], labels[labelled], label_smoothing=smoothing)
