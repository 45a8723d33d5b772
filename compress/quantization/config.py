"""The configuration of a quantization, whichever method does it."""

from __future__ import annotations

from dataclasses import dataclass

from compress.utils.errors import UsageError
from compress.utils.messages import unknown


@dataclass(frozen=True)
class QuantizationConfig:
    """How to quantize a network."""

    observer: str | None = None  # observer of activation ranges, one of the method's `observers`; None for its default
    # for `observer: percentile`, the share of an activation's values in percent that its range covers
    percentile: float = 99.9
    reduce_range: bool = True  # use 7-bit weights in INT8, which do not overflow without VNNI
    keep: tuple[str, ...] = ()  # names of layers that stay in float
    # `off`, `fast`, or `full` (layer by layer): correct biases by the mean error of the layers
    bias_correction: str = "off"
    # equalize the channel ranges of adjacent layers first (cross-layer equalization, arXiv 1906.04721)
    equalize: bool = False
    aware: bool = False  # whether the network is trained with fake quantization
    # `x86` (unsigned activations with zero points) or `portable` (signed and symmetric, zero points are 0, as TensorRT
    # takes)
    target: str = "x86"
    # 8; or 4, for methods with `in_file`: of linear layers, whose activations are then quantized dynamically.
    # Convolutions stay at 8.
    linear_weight_bits: int = 8
    integer_io: bool = False  # whether images and logits of a file are integers too; LiteRT only
    device: str = "cpu"  # what calibration runs on, for methods that quantize in PyTorch

    def __post_init__(self) -> None:
        for name, allowed in ALLOWED.items():
            if (value := getattr(self, name)) not in allowed:
                raise UsageError(f"quantize: {unknown(name, str(value), map(str, allowed))}")


ALLOWED = {"bias_correction": ("off", "fast", "full"), "target": ("x86", "portable"), "linear_weight_bits": (8, 4)}
"""Values of the settings that have few."""

DEFAULT = QuantizationConfig()
