"""Static INT8 after training by ONNX Runtime's own quantizer, on the network's ONNX file.

Weights become signed 8-bit integers with one scale a channel, activations unsigned ones with one scale a tensor.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.quantization.config import Scheme

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import Tensor, nn


def quantize(
    proto: ModelProto, model: nn.Module, batches: Sequence[Tensor], excluded: Sequence[str], scheme: Scheme
) -> ModelProto:
    """Quantize a float ONNX file; see `compress.quantization.ptq.quantize`.

    Args:
        proto: The file, which may be changed.
        model: The network that it was written of; not looked at.
        batches: Calibration images `[b, 3, r, r]`.
        excluded: Names of the nodes that stay in float.
        scheme: How.
    """
    import onnx
    from onnxruntime import quantization as ort

    methods = {"entropy": ort.CalibrationMethod.Entropy, "percentile": ort.CalibrationMethod.Percentile}
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "quantized.onnx"
        ort.quantize_static(
            proto,
            path,
            _Reader(proto.graph.input[0].name, batches),
            quant_format=ort.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=scheme.reduce_range,
            activation_type=ort.QuantType.QUInt8,
            weight_type=ort.QuantType.QInt8,
            nodes_to_exclude=list(excluded),
            calibrate_method=methods.get(scheme.observer or "", ort.CalibrationMethod.MinMax),
            extra_options={"CalibPercentile": scheme.percentile},
        )
        return onnx.load(path)


class _Reader:
    """Gives ONNX Runtime one batch after the other; it takes whatever has this one method."""

    def __init__(self, name: str, batches: Sequence[Tensor]) -> None:
        self._feeds: Iterator[dict[str, Any]] = iter([{name: batch.numpy()} for batch in batches])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)
