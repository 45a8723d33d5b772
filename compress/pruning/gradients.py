"""Gradients that rank channels by their effect on the loss."""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn


def keep_gradients(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Leave in the parameters of `model` the gradient of the cross-entropy, summed over (pixels, labels) batches.

    Batch-norm goes by its stored statistics, which stay as they are.
    """
    model.eval()
    model.zero_grad(set_to_none=True)
    for pixels, labels in batches:
        F.cross_entropy(model(pixels), labels, reduction="sum").backward()  # type: ignore[no-untyped-call]
