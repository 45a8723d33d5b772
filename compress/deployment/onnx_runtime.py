"""ONNX Runtime, on the CPU or another of its execution providers."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.deployment.coverage import Coverage
from compress.deployment.onnx_file import macs_by_weight, quantized_convolutions
from compress.deployment.providers import OPTIONS, check_provider
from compress.deployment.runtimes import Runner, thread_count
from compress.quantization.four_bits import OPERATOR, operator_bits
from compress.registry import QUANTIZERS
from compress.utils.errors import CompressError, first_line

if TYPE_CHECKING:
    import numpy as np

    from compress.deployment.export import Source

CPU = "CPUExecutionProvider"
NAME = "onnxruntime"
FORMAT = "onnx"
READS = (".onnx",)
ENGINE = "onnxruntime"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
PROGRAMS = ()
ADD = "pip install 'compress-model[deploy]'"
QUANTIZED = tuple(QUANTIZERS)
PORTABLE = True
INTEGER_CONVOLUTIONS = ("QLinearConv", "ConvInteger")
FLOAT_CONVOLUTIONS = ("Conv", "FusedConv", "NhwcFusedConv")
INTEGER_WEIGHT = {
    "QLinearConv": 3,
    "ConvInteger": 1,
    "QGemm": 3,
    "QLinearMatMul": 3,
    "MatMulInteger": 1,
    "MatMulIntegerToFloat": 1,
    "DynamicQuantizeMatMul": 1,
    OPERATOR: 1,
}
"""Operators that multiply integers, and which of their inputs is the weight."""


def build(source: Source, folder: Path) -> Path:
    """Write `model.onnx`."""
    return Path(shutil.copy(source.onnx(), folder / "model.onnx"))


def lacks(device: str) -> list[str]:
    """The device, where this build of ONNX Runtime has no such execution provider."""
    import onnxruntime

    return [] if device in onnxruntime.get_available_providers() else [device]


def load(path: Path, threads: int | None = None, device: str = CPU) -> Runner:
    """Make an ONNX file ready to run.

    Raises:
        CompressError: the file cannot be read, or the device does not run it.
    """
    options = _options(threads)
    if device == CPU:
        session = _session(path, options)
    else:
        with tempfile.TemporaryDirectory() as work:
            options.enable_profiling, options.profile_file_prefix = True, str(Path(work) / "profile")
            session = _session(path, options, device)
            check_provider(session, path, device)
    name = session.get_inputs()[0].name

    def run(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return session.run(None, {name: images})[0]  # type: ignore[no-any-return]

    return run


def coverage(path: Path, device: str = CPU) -> Coverage:
    """What runs in integer, of the graph as ONNX Runtime optimises it for this processor; other devices do not tell.

    Constants keep their names in it (one whose type it changes gets an ending), and by these its operators are found in
    the file, which has the shapes.
    """
    import onnx

    macs, stored = macs_by_weight(path)
    if device != CPU:
        return Coverage(None, quantized_convolutions(path)[1], None, sum(macs.values()))
    with tempfile.TemporaryDirectory() as work:
        options = _options(1)
        options.optimized_model_filepath = str(Path(work) / "optimized.onnx")
        _session(path, options)
        graph = onnx.load(options.optimized_model_filepath).graph
    nodes, constants = graph.node, {tensor.name for tensor in graph.initializer}
    weights = [node.input[INTEGER_WEIGHT[node.op_type]] for node in nodes if _in_integer(node)]
    names = [weight for weight in weights if weight in constants]  # the rest are products of activations
    longest = [max((name for name in stored if weight.startswith(name)), key=len, default="") for weight in names]
    found = [macs.get(stored.get(name, "")) for name in longest]
    integer = sum(node.op_type in INTEGER_CONVOLUTIONS for node in nodes)
    return Coverage(
        integer,
        integer + sum(node.op_type in FLOAT_CONVOLUTIONS for node in nodes),
        sum(part or 0 for part in found) if all(found) else None,
        sum(macs.values()),
    )


def _in_integer(node: Any) -> bool:
    """Whether a node multiplies integers; with weights of 4 bits it does where it rounds its data to 8."""
    return node.op_type in INTEGER_WEIGHT and (node.op_type != OPERATOR or operator_bits(node)[1] == 8)


def _options(threads: int | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = thread_count(threads)
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4  # errors are raised as well
    # Between two runs its threads would go on spinning, on cores that others are being timed on.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _session(path: Path, options: Any, device: str = CPU) -> Any:
    import onnxruntime

    providers = [CPU] if device == CPU else [(device, OPTIONS.get(device, {})), CPU]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # its exception types are not public
        raise CompressError(f"ONNX Runtime cannot read {path}: {first_line(error)}") from error
