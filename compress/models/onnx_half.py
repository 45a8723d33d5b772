"""ONNX networks in FP16, by ONNX Runtime's own converter. Images and logits stay float32."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compress.models.half_range import refuse_large
from compress.models.onnx_storage import save_onnx
from compress.utils.errors import CompressError, first_line

if TYPE_CHECKING:
    from onnx import ModelProto


def write_half(source: Path, path: Path) -> None:
    """Write the float network in `source` with weights and operators in FP16, between two casts at its ends.

    Operators that ONNX lacks in FP16, or that the converter does not trust with it, stay in FP32 between casts.

    Raises:
        CompressError: a weight is too large for FP16, or the network cannot be converted.
    """
    import onnx

    try:
        from onnxruntime.transformers.float16 import convert_float_to_float16
        from onnxruntime.transformers.onnx_model import OnnxModel
    except ImportError as error:
        raise CompressError(
            "FP16 ONNX files are made by ONNX Runtime's converter: pip install 'compress-model[deploy]'"
        ) from error

    proto = onnx.load(source)
    _refuse_large(proto)
    shapes = onnx.shape_inference.infer_shapes(onnx.load(source, load_external_data=False))  # takes up to 2 GB
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(shapes.graph.value_info)
    try:
        half = convert_float_to_float16(proto, keep_io_types=True, disable_shape_infer=True)
        OnnxModel.graph_topological_sort(half.graph, is_deterministic=True)  # it appends the casts at the end
        del half.graph.value_info[:]
        save_onnx(half, path)
    except Exception as error:  # the converter asserts, the checker raises types of its own
        raise CompressError(f"the network cannot be written in FP16: {first_line(error)}") from error


def _refuse_large(proto: ModelProto) -> None:
    """Refuse weights beyond FP16's range, which the converter would silently clamp; folding can make them larger."""
    import numpy as np
    from onnx import TensorProto, numpy_helper

    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = np.abs(numpy_helper.to_array(tensor))
            refuse_large(tensor.name, float(values.max(initial=0)))
