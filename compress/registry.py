"""Names of what can be added to the package -> where it lives.

One line per entry, `module` or `module:name`. Nothing is imported until it is asked for, so every layer may read these
tables; plugins add to them through `compress.plugins`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

RUNTIMES = {
    "onnxruntime": "compress.deployment.onnx_runtime",
    "openvino": "compress.deployment.open_vino",
    "ncnn": "compress.deployment.ncnn",
    "inductor": "compress.deployment.inductor",
    "executorch": "compress.deployment.executorch",
    "litert": "compress.deployment.litert",
    "tensorrt": "compress.deployment.tensorrt",
    "coreml": "compress.deployment.coreml",
    "onnxruntime-cuda": "compress.deployment.onnx_runtime:CUDAExecutionProvider",
    "onnxruntime-tensorrt": "compress.deployment.onnx_runtime:TensorrtExecutionProvider",
    "onnxruntime-coreml": "compress.deployment.onnx_runtime:CoreMLExecutionProvider",
    "onnxruntime-qnn": "compress.deployment.onnx_runtime:QNNExecutionProvider",
    "onnxruntime-openvino": "compress.deployment.onnx_runtime:OpenVINOExecutionProvider",
    "openvino-gpu": "compress.deployment.open_vino:GPU",
    "openvino-npu": "compress.deployment.open_vino:NPU",
}
"""Module of each runtime; after a colon its device, where that is not the processor."""

LOSSES = {
    "ce": "compress.training.losses.ce:CrossEntropy",
    "kd": "compress.training.losses.kd:Kd",
    "dkd": "compress.training.losses.dkd:Dkd",
    "dist": "compress.training.losses.dist:Dist",
    "embedding": "compress.training.losses.embedding:Embedding",
    "rkd_distance": "compress.training.losses.rkd:RkdDistance",
    "rkd_angle": "compress.training.losses.rkd:RkdAngle",
    "crd": "compress.training.losses.crd:Crd",
    "attention": "compress.training.losses.attention:Attention",
    "hint": "compress.training.losses.hint:Hint",
}
"""Class of each loss, in the order in which the objective sums them."""

PLUGIN_LOSSES: dict[str, Callable[..., Tensor]] = {}
"""Losses that plugins brought, by the name that a recipe gives under `losses.own`."""
