"""Static INT8 after training, by any of the methods."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from compress import registry
from compress.quantization.checks import refuse_broken_weights, refuse_calibration
from compress.quantization.choice import Demands, of_variants
from compress.quantization.config import DEFAULT, QuantizationConfig
from compress.quantization.method import Quantized, require_method
from compress.utils.errors import CompressError, UsageError


def quantize(
    model: nn.Module,
    calibration: Iterable[Tensor],
    example: Tensor,
    config: QuantizationConfig = DEFAULT,
    method: str = "torchao",
) -> Quantized:
    """Quantize the convolutions and linears of a trained network; `model` itself stays as it is.

    Args:
        calibration: Batches of train images `[b, 3, r, r]`, normalised as in training.
        example: Two or more images `[b, 3, r, r]`; only their shape counts.

    Raises:
        UsageError: there is no such setting, or the method does not have it.
        CompressError: a package is missing, a weight is not finite, the calibration images cannot calibrate anything,
            or nothing could be quantized as requested.
    """
    record = require_method(method)
    if record.calibrate is None:
        raise UsageError(f"`method: {method}` quantizes the file of a runtime, not a network")
    for key in Demands.of(config).unmet(record):
        others = (name for name in of_variants() if key not in Demands.of(config).unmet(registry.quantizer(name)))
        able = " or ".join(others) or f"its default; it has {', '.join(record.observers)}"
        raise UsageError(f"`method: {method}` does not have `{key}: {getattr(config, key)}`; use {able}")
    batches = list(calibration)
    refuse_broken_weights(model)
    refuse_calibration(batches)
    quantized = record.calibrate(model, batches, example, config)
    if not quantized.layers:
        raise CompressError(f"{type(model).__name__} has no convolution or linear that could be quantized")
    return quantized
