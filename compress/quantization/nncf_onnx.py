"""Static INT8 after training by NNCF, on the network's ONNX file: made for OpenVINO, read by ONNX Runtime as well.

It places the quantizers where OpenVINO's integer kernels want them, also at residual additions, and can take the mean
error of a layer out of its bias and bring neighbouring channels to one range. Its scales are symmetric.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
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
        model: The network that it was written of.
        batches: Calibration images `[b, 3, r, r]`.
        excluded: Names of the nodes that stay in float.
        scheme: How.
    """
    os.environ.setdefault("NNCF_CI", "1")  # it tells Intel otherwise that somebody quantizes
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

    logging.getLogger("nncf").setLevel(logging.ERROR)
    name = proto.graph.input[0].name
    images = [image[None].numpy() for batch in batches for image in batch]
    return nncf.quantize(
        proto,
        nncf.Dataset(images, lambda image: {name: image}),
        subset_size=len(images),
        fast_bias_correction=scheme.bias_correction != "full",
        model_type=nncf.ModelType.TRANSFORMER if _attends(model) else None,
        ignored_scope=nncf.IgnoredScope(names=list(excluded)),
        advanced_parameters=AdvancedQuantizationParameters(
            overflow_fix=OverflowFix.ENABLE if scheme.reduce_range else OverflowFix.DISABLE,
            disable_bias_correction=scheme.bias_correction == "off",
            disable_channel_alignment=not scheme.equalize,
            activations_range_estimator_params=_ranges(scheme),
        ),
    )


def _ranges(scheme: Scheme) -> Any:
    from nncf.quantization.range_estimator import (
        AggregatorType,
        RangeEstimatorParameters,
        RangeEstimatorParametersSet,
        StatisticsCollectorParameters,
        StatisticsType,
    )

    if scheme.observer == "percentile":
        outside = (1 - scheme.percentile / 100) / 2
        side = {"statistics_type": StatisticsType.QUANTILE, "aggregator_type": AggregatorType.MEAN}
        collector = StatisticsCollectorParameters(**side, quantile_outlier_prob=outside)
        return RangeEstimatorParameters(min=collector, max=collector)
    named = {"minmax": RangeEstimatorParametersSet.MINMAX, "histogram": RangeEstimatorParametersSet.HISTOGRAM}
    return named.get(scheme.observer or "", RangeEstimatorParameters())


def _attends(model: nn.Module) -> bool:
    return any("attention" in type(module).__name__.lower() for module in model.modules())
