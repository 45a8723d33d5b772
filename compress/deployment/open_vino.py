"""OpenVINO, on the CPU or another device that it finds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.deployment.coverage import Coverage, products
from compress.deployment.runtimes import Runner, thread_count
from compress.registry import QUANTIZERS
from compress.utils.errors import CompressError

if TYPE_CHECKING:
    import numpy as np

    from compress.deployment.export import Source

CPU = "CPU"
NAME = "openvino"
FORMAT = "openvino"
READS = (".xml", ".onnx")
ENGINE = "openvino"
PACKAGES = ("onnx", "onnxscript", "openvino")
PROGRAMS = ()
ADD = "pip install 'compress-model[deploy]'"
QUANTIZED = tuple(QUANTIZERS)
PORTABLE = True
MULTIPLY = ("Convolution", "GroupConvolution", "MatMul")
EXECUTED = ("layerType", "runtimePrecision", "originalLayersNames")
INTEGERS, PACKED = ("u8", "i8"), ("u4", "i4")
GROUP = "DYNAMIC_QUANTIZATION_GROUP_SIZE"
"""Activations that share a scale where they are rounded as they come; 0 forbids that."""


def build(source: Source, folder: Path) -> Path:
    """Write the intermediate representation, `model.xml` and `model.bin`, with weights as they are."""
    import openvino

    path, model = folder / "model.xml", _read(source.onnx())
    for index, node in enumerate(model.get_ordered_ops()):
        if node.get_friendly_name() == node.get_name():
            # Unnamed nodes are called by a count of all that this process made: other bytes each time.
            node.set_friendly_name(f"{node.get_type_name()}.{index}")
    openvino.save_model(model, str(path), compress_to_fp16=False)
    return path


def lacks(device: str) -> list[str]:
    """The device, where OpenVINO finds none of its kind."""
    import openvino

    found = {name.partition(".")[0] for name in openvino.Core().available_devices}
    return [] if device in found else [device]


def load(path: Path, threads: int | None = None, device: str = CPU) -> Runner:
    """Make an artifact ready to run; each batch size is compiled when it first comes.

    Compiled for one batch size, a network runs faster than compiled for any (batch 1 in INT8 by 1.3x).

    Raises:
        CompressError: the file cannot be read.
    """
    model = _read(path)
    requests: dict[tuple[int, ...], Any] = {}

    def run(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        request = requests.get(images.shape)
        if request is None:
            fixed = model.clone()
            fixed.reshape(list(images.shape))
            request = requests[images.shape] = _compile(fixed, threads, device).create_infer_request()
        request.infer({0: images}, share_inputs=True)
        return request.get_output_tensor(0).data.copy()  # type: ignore[no-any-return]

    return run


def coverage(path: Path, device: str = CPU) -> Coverage:
    """What runs in integer, of the graph that OpenVINO executes for one image."""
    model = _read(path)
    shape = model.input(0).get_partial_shape()
    shape[0] = 1
    model.reshape(shape)
    return executed(model, _compile(model, 1, device), device)


def executed(model: Any, compiled: Any, device: str = CPU) -> Coverage:
    """What of a model of fixed shape runs in integer, once compiled; layers that were fused into others count once.

    A compiled layer says in which precision it runs, and names the layers of the model that it was made from. Of one
    with weights of 4 bits it says that and its shapes alone, and not whether its activations are rounded to 8 bits or
    its weights unpacked to float: the answers tell, which are others where rounding is forbidden.
    """
    macs = _macs(model)
    kinds, in_integer, packed = [], set(), 0
    for node in compiled.get_runtime_model().get_ops():
        info = {name: str(node.get_rt_info()[name].value) for name in EXECUTED}
        integer = info["runtimePrecision"] in INTEGERS
        if info["layerType"] == "FullyConnected" and info["runtimePrecision"] in PACKED:
            packed += math.prod(node.get_output_shape(0)) * node.get_input_shape(0)[-1]
        if integer:
            # A scale that was moved behind a layer is called LAYER/DequantizationMultiply, maybe the only name.
            names = info["originalLayersNames"].split(",")
            in_integer |= {layer for layer in macs for name in names if f"{name}/".startswith(f"{layer}/")}
        if "Convolution" in info["layerType"]:
            kinds.append(integer)
    if packed and not _rounds(model, compiled, device):
        packed = 0
    return Coverage(sum(kinds), len(kinds), sum(macs[layer] for layer in in_integer) + packed, sum(macs.values()))


def _macs(model: Any) -> dict[str, int]:
    """MACs of each convolution and linear by name; a product of two activations is no linear."""
    macs = {}
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind in MULTIPLY and _constant(node.input_value(1).get_node()):
            output, weight = list(node.get_output_shape(0)), list(node.get_input_shape(1))
            channels = {"Convolution": weight[0], "GroupConvolution": weight[0] * weight[1]}.get(kind, output[-1])
            macs[node.get_friendly_name()] = products(output, weight, channels)
    return macs


def _rounds(model: Any, compiled: Any, device: str) -> bool:
    """Whether a compiled model of fixed shape rounds the activations of layers with weights of 4 bits."""
    import numpy as np

    pixels = np.random.default_rng(0).normal(size=list(model.input(0).get_shape())).astype(np.float32)
    exact = _compile(model, 1, device, {GROUP: 0})
    return not np.array_equal(compiled([pixels])[0], exact([pixels])[0])


def _constant(node: Any) -> bool:
    """Whether a value is stored in the model, or made of what is; the shape that it is given does not count."""
    if node.get_type_name() == "Constant":
        return True
    values = node.input_values()[: 1 if node.get_type_name() == "Reshape" else None]
    return bool(values) and all(_constant(value.get_node()) for value in values)


@cache
def _core() -> Any:
    """One, which lives as long as the process.

    Each sets a stack for signal handlers, and takes back the one before it when it goes: of two that go in the order in
    which they came, the first one's stack stays set without being there, and the next signal is a segmentation fault.
    """
    import openvino

    return openvino.Core()


def _read(path: Path) -> Any:
    try:
        return _core().read_model(str(path))
    except Exception as error:  # its exception types are not public
        raise CompressError(f"OpenVINO cannot read {path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Why OpenVINO failed: its last line, after those of where in its source."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()[:200]


def _compile(model: Any, threads: int | None, device: str, more: Mapping[str, Any] | None = None) -> Any:
    # By default OpenVINO computes float networks in bf16 where the processor has it: less exact, and no baseline. A GPU
    # would halve them as well; an NPU computes in fp16 or integers alone.
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", **(more or {})}
    if device != "NPU":
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    if device == CPU:
        settings["INFERENCE_NUM_THREADS"] = thread_count(threads)
    try:
        return _core().compile_model(model, device, settings)
    except Exception as error:  # its exception types are not public
        raise CompressError(f"OpenVINO cannot compile the network for the {device}: {_reason(error)}") from error
