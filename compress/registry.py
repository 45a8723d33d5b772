"""Names of what can be added to the package -> where it lives.

One line per entry, `module` or `module:name`. Nothing is imported until it is asked for, so every layer may read these
tables; plugins add to them through `compress.plugins`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class RuntimeEntry(NamedTuple):
    """Where a runtime is defined, and which files it reads.

    Attributes:
        where: `module:Class` of a subclass of `compress.deployment.runtime.Runtime`; plugins register the class itself.
        reads: Endings of the files that it loads, so that the runtime of a file is known without importing any.
        device: Execution provider or device; None for the CPU.
    """

    where: str | type
    reads: tuple[str, ...]
    device: str | None = None


_ONNX_RUNTIME = RuntimeEntry("compress.deployment.onnx_runtime:OnnxRuntime", (".onnx",))
_OPENVINO = RuntimeEntry("compress.deployment.open_vino:OpenVino", (".xml", ".onnx"))

RUNTIMES: dict[str, RuntimeEntry] = {
    "onnxruntime": _ONNX_RUNTIME,
    "openvino": _OPENVINO,
    "ncnn": RuntimeEntry("compress.deployment.ncnn:Ncnn", (".ncnn.param",)),
    "inductor": RuntimeEntry("compress.deployment.inductor:Inductor", (".pt2",)),
    "executorch": RuntimeEntry("compress.deployment.executorch:ExecuTorch", (".pte",)),
    "litert": RuntimeEntry("compress.deployment.litert:LiteRt", (".tflite",)),
    "tensorrt": RuntimeEntry("compress.deployment.tensorrt:TensorRt", (".onnx",)),
    "coreml": RuntimeEntry("compress.deployment.coreml:CoreMl", (".mlpackage",)),
    "onnxruntime-cuda": _ONNX_RUNTIME._replace(device="CUDAExecutionProvider"),
    "onnxruntime-tensorrt": _ONNX_RUNTIME._replace(device="TensorrtExecutionProvider"),
    "onnxruntime-coreml": _ONNX_RUNTIME._replace(device="CoreMLExecutionProvider"),
    "onnxruntime-qnn": _ONNX_RUNTIME._replace(device="QNNExecutionProvider"),
    "onnxruntime-openvino": _ONNX_RUNTIME._replace(device="OpenVINOExecutionProvider"),
    "openvino-gpu": _OPENVINO._replace(device="GPU"),
    "openvino-npu": _OPENVINO._replace(device="NPU"),
}
"""Runtimes by name. Of several that read a file, the first one is preferred."""

PLUGIN_LOSSES: dict[str, Callable[..., Tensor]] = {}
"""Losses that plugins brought, by the name that a recipe gives under `losses.own`."""
