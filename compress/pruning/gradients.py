"""Gradients for the `taylor` ranking of channels."""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn


def accumulate_gradients(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Accumulate the gradient of the summed cross-entropy in the parameters of `model`.

    Earlier gradients are cleared. Batch norm uses its stored statistics, which stay as they are. Batches are pixels
    `[b, 3, r, r]` and labels int64 `[b]`.
    """
    model.eval()
    model.zero_grad(set_to_none=True)
    for pixels, labels in batches:
        F.cross_entropy(model(pixels), labels, reduction="sum").backward()  # type: ignore[no-untyped-call]
