"""How a network is quantized, whichever method does it, and what no method can quantize."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class QuantizationConfig:
    """How a network is quantized.

    Attributes:
        observer: What finds the range of an activation; each method says which it has, and its own comes first.
        percentile: Share of an activation's values, in percent, that its range holds; of `percentile` only.
        reduce_range: Weights of 7 bits in INT8, which do not overflow without VNNI.
        keep: Names of layers that stay in float.
        bias_correction: `off`, or how the mean error of a layer is taken out of its bias: `fast`, or `full`, layer by
            layer.
        equalize: Whether neighbouring layers' channels are brought to one range first (cross-layer equalisation,
            arXiv 1906.04721).
        aware: Whether the network is trained with integers simulated in it.
        target: `x86` (activations unsigned, with zero points) or `portable` (everything signed and symmetric: zero
            points are 0), which is what TensorRT takes.
        linear_weight_bits: 8, or 4 of methods that quantize files: of linear layers, whose activations are rounded as
            they come then. Convolutions stay at 8.
    """

    observer: str | None = None
    percentile: float = 99.9
    reduce_range: bool = True
    keep: tuple[str, ...] = ()
    bias_correction: str = "off"
    equalize: bool = False
    aware: bool = False
    target: str = "x86"
    linear_weight_bits: int = 8


DEFAULT = QuantizationConfig()
