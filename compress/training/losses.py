"""Losses. Each gives the mean over the images that it applies to, as a scalar."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Knowledge distillation: T^2 KL(softmax(teacher / T) || softmax(student / T)), arXiv 1503.02531.

    Both are logits `[batch, classes]`. T^2 keeps the size of the gradients when T changes.
    """
    divergence = F.kl_div(
        F.log_softmax(student / temperature, dim=1),
        F.log_softmax(teacher / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * temperature**2


def embedding_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine of the angle between the student's and the teacher's embeddings, both `[batch, width]`.

    Half the squared distance of the two when they are scaled to length 1 (FitNets' hint, arXiv 1412.6550, on what
    OpenCLIP compares by cosine).
    """
    return 1 - F.cosine_similarity(student, teacher, dim=1).mean()


def labelled_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy over the labelled images of a batch; 0 where there is none.

    `logits` are `[batch, classes]`; `labels` `[batch]` are -1 for images without one.
    """
    labelled = labels >= 0
    if not bool(labelled.any()):
        return logits.sum() * 0.0
    return F.cross_entropy(logits[labelled], labels[labelled], label_smoothing=smoothing)
