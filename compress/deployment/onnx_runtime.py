"""ONNX Runtime on the CPU."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.deployment.runtimes import Runner, thread_count
from compress.errors import CompressError, first_line
from compress.quantization.methods import METHODS

if TYPE_CHECKING:
    import numpy as np

    from compress.deployment.export import Source

NAME = "onnxruntime"
FORMAT = "onnx"
READS = (".onnx",)
ENGINE = "onnxruntime"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
PROGRAMS = ()
ADD = "pip install 'compress-model[deploy]'"
QUANTIZED = tuple(METHODS)
PORTABLE = True


def build(source: Source, folder: Path) -> Path:
    """Write `model.onnx`."""
    return Path(shutil.copy(source.onnx(), folder / "model.onnx"))


def load(path: Path, threads: int | None = None) -> Runner:
    """Make an ONNX file ready to run.

    Raises:
        CompressError: the file cannot be read.
    """
    session = _session(path, _options(threads))
    name = session.get_inputs()[0].name

    def run(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return session.run(None, {name: images})[0]  # type: ignore[no-any-return]

    return run


def coverage(path: Path) -> tuple[int, int]:
    """Convolutions that run in integer, and all, of the graph as ONNX Runtime optimises it for this processor."""
    import onnx

    with tempfile.TemporaryDirectory() as work:
        options = _options(1)
        options.optimized_model_filepath = str(Path(work) / "optimized.onnx")
        _session(path, options)
        nodes = onnx.load(options.optimized_model_filepath).graph.node
    integer = sum(node.op_type in ("QLinearConv", "ConvInteger") for node in nodes)
    return integer, integer + sum(node.op_type in ("Conv", "FusedConv", "NhwcFusedConv") for node in nodes)


def _options(threads: int | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = thread_count(threads)
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    # Between two runs its threads would go on spinning, on cores that others are being timed on.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _session(path: Path, options: Any) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exception types are not public
        raise CompressError(f"ONNX Runtime cannot read {path}: {first_line(error)}") from error
