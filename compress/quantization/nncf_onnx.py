"""`nncf`: static INT8 by NNCF on the network's ONNX file, made for OpenVINO, read by ONNX Runtime as well.

It places quantizers where OpenVINO's integer kernels expect them, also at residual additions, and can correct biases
and equalize channel ranges. Its scales are symmetric.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from compress.quantization.config import QuantizationConfig
from compress.quantization.method import Method, Quantized, restore_onnx

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import Tensor, nn


def calibrate(model: nn.Module, batches: Sequence[Tensor], example: Tensor, config: QuantizationConfig) -> Quantized:
    """Quantize the ONNX file of a network."""
    from compress.quantization.onnx_ptq import quantize_onnx

    return quantize_onnx("nncf", quantize_file, model, batches, example, config)


def quantize_file(
    proto: ModelProto, model: nn.Module, batches: Sequence[Tensor], excluded: Sequence[str], config: QuantizationConfig
) -> ModelProto:
    """Quantize a float ONNX file; see `compress.quantization.onnx_ptq.QuantizeProto`."""
    os.environ.setdefault("NNCF_CI", "1")  # disables its telemetry
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

    logging.getLogger("nncf").setLevel(logging.ERROR)
    name = proto.graph.input[0].name
    images = [image[None].numpy() for batch in batches for image in batch]
    return nncf.quantize(
        proto,
        nncf.Dataset(images, lambda image: {name: image}),
        subset_size=len(images),
        fast_bias_correction=config.bias_correction != "full",
        model_type=nncf.ModelType.TRANSFORMER if _attends(model) else None,
        ignored_scope=nncf.IgnoredScope(names=list(excluded)),
        advanced_parameters=AdvancedQuantizationParameters(
            overflow_fix=OverflowFix.ENABLE if config.reduce_range else OverflowFix.DISABLE,
            disable_bias_correction=config.bias_correction == "off",
            disable_channel_alignment=not config.equalize,
            activations_range_estimator_params=_ranges(config),
        ),
    )


def _ranges(config: QuantizationConfig) -> Any:
    from nncf.quantization.range_estimator import (
        AggregatorType,
        RangeEstimatorParameters,
        RangeEstimatorParametersSet,
        StatisticsCollectorParameters,
        StatisticsType,
    )

    if config.observer == "percentile":
        outside = (1 - config.percentile / 100) / 2
        side = {"statistics_type": StatisticsType.QUANTILE, "aggregator_type": AggregatorType.MEAN}
        collector = StatisticsCollectorParameters(**side, quantile_outlier_prob=outside)
        return RangeEstimatorParameters(min=collector, max=collector)
    named = {"minmax": RangeEstimatorParametersSet.MINMAX, "histogram": RangeEstimatorParametersSet.HISTOGRAM}
    return named.get(config.observer or "", RangeEstimatorParameters())


def _attends(model: nn.Module) -> bool:
    from compress.models.onnx_network import OnnxClassifier

    if isinstance(model, OnnxClassifier):
        return model.attends
    return any("attention" in type(module).__name__.lower() for module in model.modules())


METHOD = Method(
    packages=("nncf", "onnx", "onnxscript", "onnxruntime"),
    observers=("mean", "minmax", "histogram", "percentile"),
    corrects=True,
    in_file=True,
    extra="deploy",
    about="NNCF on the ONNX file, with bias correction and equalisation: made for OpenVINO",
    calibrate=calibrate,
    restore=restore_onnx,
)
