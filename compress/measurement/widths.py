"""In how many bits the layers of a network are stored and computed, and what share of its work is in each width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from compress.measurement.compute import FLOAT_BITS

PRODUCT = "product of activations"
"""What multiplies without being a convolution or linear, such as attention."""


def widths(model: nn.Module, macs: Mapping[str, int], bits: Mapping[str, tuple[int, int]]) -> list[dict[str, Any]]:
    """Layers by kind and width, those with the most work first.

    Args:
        model: The float network.
        macs: Multiply-accumulates by layer, of `compress.measurement.compute.count`; without any, a layer is left out.
        bits: (weight bits, activation bits) of the quantized layers, by the names that they have in `model`.

    Returns:
        `[{kind, weight_bits, activation_bits, layers, macs_share}]`, whose shares add up to 1. A product of activations
        has no weight: its `weight_bits` are None.
    """
    modules, found = dict(model.named_modules()), dict[tuple[str, int | None, int], list[int]]()
    for name, done in macs.items():
        kind = _kind(modules[name])
        weight, activation = bits.get(name, FLOAT_BITS)
        if done:
            found.setdefault((kind, None if kind == PRODUCT else weight, activation), []).append(done)
    total = sum(macs.values())
    return [
        {
            "kind": kind,
            "weight_bits": weight,
            "activation_bits": activation,
            "layers": len(done),
            "macs_share": sum(done) / total,
        }
        for (kind, weight, activation), done in sorted(found.items(), key=lambda entry: -sum(entry[1]))
    ]


def _kind(module: nn.Module) -> str:
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return "convolution"
    return "linear" if isinstance(module, nn.Linear) else PRODUCT
