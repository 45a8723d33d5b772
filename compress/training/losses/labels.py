"""Losses against labels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from compress.training.losses._precision import full_precision


@full_precision
def labelled_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy over the labelled images of a batch; 0 where there is none.

    `logits` are `[batch, classes]`; `labels` `[batch]` are -1 for images without one.
    """
    labelled = labels >= 0
    if not bool(labelled.any()):
        return logits.sum() * 0.0
    return F.cross_entropy(logits[labelled], labels[labelled], label_smoothing=smoothing)
