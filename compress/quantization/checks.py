"""Refuse networks and calibration sets that no method can quantize."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from compress.utils.errors import CompressError


def refuse_broken_weights(model: nn.Module) -> None:
    """Refuse a network with NaN or infinite weights; the `CompressError` names the first."""
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CompressError(f"the weight {name} holds NaN or infinite values; this network cannot be quantized")


def refuse_calibration(batches: Iterable[Tensor], what: str = "calibration") -> None:
    """Raise a `CompressError` for images `[b, 3, r, r]` without ranges: none, not finite, or each of one colour."""
    images, varied = 0, False
    for batch in batches:
        if not torch.isfinite(batch).all():
            raise CompressError(f"a {what} image holds NaN or infinite values")
        images += len(batch)
        varied = varied or bool((batch.flatten(2).amax(2) != batch.flatten(2).amin(2)).any())
    if not images:
        raise CompressError(f"no {what} images")
    if not varied:
        raise CompressError(
            f"each of the {images} {what} images is one flat colour (such as all black); activation ranges cannot be "
            "found from them"
        )
