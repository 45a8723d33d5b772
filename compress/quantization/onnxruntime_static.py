"""`onnxruntime`: static INT8 by ONNX Runtime's quantizer on the network's ONNX file.

Weights become signed 8-bit integers with one scale per channel, activations unsigned ones with one scale per tensor.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from compress.quantization.config import QuantizationConfig
from compress.quantization.method import Method, Quantized, restore_onnx

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import Tensor, nn

    from compress.quantization.ort_histograms import Feed


def calibrate(model: nn.Module, batches: Sequence[Tensor], example: Tensor, config: QuantizationConfig) -> Quantized:
    """Quantize the ONNX file of a network."""
    from compress.quantization.onnx_ptq import quantize_onnx

    return quantize_onnx("onnxruntime", quantize_file, model, batches, example, config)


def quantize_file(
    proto: ModelProto, model: nn.Module, batches: Sequence[Tensor], excluded: Sequence[str], config: QuantizationConfig
) -> ModelProto:
    """Quantize a float ONNX file; see `compress.quantization.onnx_ptq.QuantizeProto`. `model` is not read."""
    import onnx
    from onnxruntime import quantization as ort

    from compress.quantization.ort_histograms import histograms_by_batch

    methods = {"entropy": ort.CalibrationMethod.Entropy, "percentile": ort.CalibrationMethod.Percentile}
    feeds = [{proto.graph.input[0].name: batch.numpy()} for batch in batches]
    collecting = histograms_by_batch(feeds) if config.observer in methods else nullcontext()
    with tempfile.TemporaryDirectory() as work, collecting:
        path = Path(work) / "quantized.onnx"
        ort.quantize_static(
            proto,
            path,
            _Reader(feeds),
            quant_format=ort.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=config.reduce_range,
            activation_type=ort.QuantType.QUInt8,
            weight_type=ort.QuantType.QInt8,
            nodes_to_exclude=list(excluded),
            calibrate_method=methods.get(config.observer or "", ort.CalibrationMethod.MinMax),
            extra_options={"CalibPercentile": config.percentile},
        )
        return onnx.load(path)


class _Reader:
    """Feeds batches to ONNX Runtime, which needs nothing but `get_next`."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


METHOD = Method(
    packages=("onnx", "onnxscript", "onnxruntime"),
    observers=("minmax", "entropy", "percentile"),
    in_file=True,
    extra="deploy",
    about="ONNX Runtime's static quantizer on the ONNX file",
    calibrate=calibrate,
    restore=restore_onnx,
)
