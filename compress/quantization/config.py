"""The configuration of a quantization, whichever method does it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class QuantizationConfig:
    """How to quantize a network.

    Attributes:
        observer: Observer of activation ranges, one of the method's `observers`; None for its default.
        percentile: For `observer: percentile`, the share of an activation's values in percent that its range covers.
        reduce_range: Use 7-bit weights in INT8, which do not overflow without VNNI.
        keep: Names of layers that stay in float.
        bias_correction: `off`, `fast`, or `full` (layer by layer): correct biases by the mean error of the layers.
        equalize: Equalize the channel ranges of adjacent layers first (cross-layer equalization, arXiv 1906.04721).
        aware: Whether the network is trained with fake quantization.
        target: `x86` (unsigned activations with zero points) or `portable` (signed and symmetric, zero points are 0,
            as TensorRT takes).
        linear_weight_bits: 8; or 4, for methods with `in_file`: of linear layers, whose activations are then quantized
            dynamically. Convolutions stay at 8.
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
