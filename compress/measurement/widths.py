"""Bit widths of the layers of a network, and the share of its MACs in each width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from torch import nn

from compress.measurement.compute import FLOAT_BITS

PRODUCT = "product of activations"
"""Kind of a layer that multiplies without being a convolution or linear, such as attention."""


class LayerWidths(TypedDict):
    """Layers of one kind and width. A product of activations has no weight: its `weight_bits` are None."""

    kind: str
    weight_bits: int | None
    activation_bits: int
    layers: int
    macs_share: float


def widths(model: nn.Module, macs: Mapping[str, int], bits: Mapping[str, tuple[int, int]]) -> list[LayerWidths]:
    """Group layers by kind and width, those with the most MACs first; the shares add up to 1.

    Args:
        model: The float network.
        macs: MACs by layer, of `compress.measurement.compute.count`; layers with 0 are left out.
        bits: (weight bits, activation bits) of the quantized layers, by their names in `model`.
    """
    modules, groups = dict(model.named_modules()), dict[tuple[str, int | None, int], list[int]]()
    for name, done in macs.items():
        kind = _kind(modules[name]) if name in modules else "linear"  # of attention; see `layer_weights`
        weight, activation = bits.get(name, FLOAT_BITS)
        if done:
            groups.setdefault((kind, None if kind == PRODUCT else weight, activation), []).append(done)
    total = sum(macs.values())
    return [
        {
            "kind": kind,
            "weight_bits": weight,
            "activation_bits": activation,
            "layers": len(done),
            "macs_share": sum(done) / total,
        }
        for (kind, weight, activation), done in sorted(groups.items(), key=lambda entry: -sum(entry[1]))
    ]


def _kind(module: nn.Module) -> str:
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return "convolution"
    return "linear" if isinstance(module, nn.Linear) else PRODUCT
