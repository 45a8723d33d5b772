"""FP16's range: networks with larger weights are refused, which converters would silently clamp."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.utils.errors import CompressError

if TYPE_CHECKING:
    from torch import nn

LARGEST = 65504.0
"""Largest finite value in FP16."""
STATISTICS = ("running_mean", "running_var")
"""Buffers of batch normalisation, which exports fold into weights: they may be larger."""


def refuse_large_weights(model: nn.Module) -> None:
    """Refuse a float network with weights beyond FP16's range.

    Raises:
        CompressError: a weight is too large for FP16.
    """
    for name, values in model.state_dict().items():
        if values.is_floating_point() and values.numel() and not name.endswith(STATISTICS):
            refuse_large(name, float(values.abs().max()))


def refuse_large(name: str, largest: float) -> None:
    """Refuse a weight by its largest absolute value.

    Raises:
        CompressError: it is too large for FP16.
    """
    if largest > LARGEST:
        raise CompressError(
            f"the weight {name} has values up to {largest:.3g}, and FP16 ends at {LARGEST:g}; "
            "export the network in fp32 or bf16"
        )
