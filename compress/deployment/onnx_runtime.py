"""ONNX Runtime, on the CPU or another of its execution providers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.deployment.coverage import Coverage
from compress.deployment.onnx_file import macs_by_weight, needed_versions
from compress.deployment.providers import PROVIDERS, check_provider
from compress.deployment.runtime import Array, ExportSource, Runner, Runtime
from compress.models.onnx_storage import copy_onnx
from compress.quantization.four_bits import OPERATOR, operator_bits
from compress.utils.errors import CompressError, first_line
from compress.utils.system import thread_count

if TYPE_CHECKING:
    from compress.deployment.layers import LayerProfiler

CPU = "CPUExecutionProvider"
INTEGER_CONVOLUTIONS = ("QLinearConv", "ConvInteger")
FLOAT_CONVOLUTIONS = ("Conv", "FusedConv", "NhwcFusedConv")
FLOAT_LINEARS = ("Gemm", "FusedGemm", "MatMul", "FusedMatMul")
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
"""Operators that multiply integers, and the position of the weight among their inputs."""


class OnnxRuntime(Runtime):
    """ONNX Runtime on one of its execution providers."""

    format = "onnx"
    files = ("model.onnx",)
    reads = (".onnx",)
    engine = "onnxruntime"
    packages = ("onnx", "onnxscript", "onnxruntime")
    install = "pip install 'compress-model[deploy]'"
    quantizers = ("onnxruntime", "nncf", "torchao")
    precisions = ("fp32", "fp16")
    from_onnx = True

    def __init__(self, name: str, device: str | None = None) -> None:
        super().__init__(name, device)
        if device:
            self.install, self.experimental = PROVIDERS[device].install, True

    def build(self, source: ExportSource, folder: Path) -> Path:
        """Write `model.onnx`."""
        return copy_onnx(source.onnx(), folder / self.files[0])

    def needs(self, path: Path) -> list[str]:
        """State opset and IR version, and the oldest runtimes that know them."""
        return needed_versions(path)

    def lacking(self) -> list[str]:
        """Name the execution provider where this build of ONNX Runtime does not have it."""
        if self.device is None:
            return []
        import onnxruntime

        return [] if self.device in onnxruntime.get_available_providers() else [self.device]

    def load(self, path: Path, threads: int | None = None) -> Runner:
        """Load an ONNX file."""
        options = _options(threads)
        if self.device is None:
            session = _session(path, options)
        else:
            with tempfile.TemporaryDirectory() as work:
                options.enable_profiling, options.profile_file_prefix = True, str(Path(work) / "profile")
                session = _session(path, options, self.device)
                check_provider(session, path, self.device)
        name = session.get_inputs()[0].name

        def run(images: Array) -> Array:
            return session.run(None, {name: images})[0]  # type: ignore[no-any-return]

        return run

    def profiler(self, path: Path, threads: int | None = None) -> LayerProfiler:
        """Load an ONNX file with the profiler on. Other providers do not wait for their device, so they are refused."""
        if self.device is not None:
            return super().profiler(path, threads)
        from compress.deployment.onnx_runtime_profile import OnnxRuntimeProfiler

        return OnnxRuntimeProfiler(partial(_session, path), _options(threads))

    def coverage(self, path: Path) -> Coverage:
        """Count in the graph that ONNX Runtime optimises for this processor; other providers do not expose theirs.

        Constants keep their names in it (one whose type it changes gets a suffix). By these names the operators are
        matched with the file, which has the shapes.
        """
        import onnx

        macs, stored = macs_by_weight(path)
        if self.device is not None:
            nodes = onnx.load(path, load_external_data=False).graph.node
            convolutions = sum(node.op_type == "Conv" for node in nodes)
            return Coverage(None, convolutions, None, sum(macs.values()), None)
        graph = _optimized(path)
        constants = {tensor.name for tensor in graph.initializer}

        def total(weights: Iterable[str]) -> int | None:
            names = [weight for weight in weights if weight in constants]  # the rest are products of activations
            longest = [max((name for name in stored if each.startswith(name)), key=len, default="") for each in names]
            # `macs` has the sum of the layers that share a weight
            found = [macs.get(name) for name in {stored.get(each, "") for each in longest}]
            return sum(part or 0 for part in found) if all(found) else None

        integer = sum(node.op_type in INTEGER_CONVOLUTIONS for node in graph.node)
        return Coverage(
            integer,
            integer + sum(node.op_type in FLOAT_CONVOLUTIONS for node in graph.node),
            total(node.input[INTEGER_WEIGHT[node.op_type]] for node in graph.node if _in_integer(node)),
            sum(macs.values()),
            total(_half_weights(graph)),
            casts=_casts(graph),
        )


def _optimized(path: Path) -> Any:
    """Graph of a file as ONNX Runtime optimises it for this processor; large weights stay out of it."""
    import onnx

    with tempfile.TemporaryDirectory() as work:
        options = _options(1)
        options.optimized_model_filepath = str(Path(work) / "optimized.onnx")
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.bin")
        _session(path, options)
        return onnx.load(options.optimized_model_filepath, load_external_data=False).graph


def _half_weights(graph: Any) -> Iterator[str]:
    """Yield the weights of convolutions and linears that are multiplied in FP16.

    Where a provider has no FP16 kernel, ONNX Runtime runs the one in FP32 between casts, and casts the weight when it
    loads the file: its type in the optimised graph is that of the arithmetic.
    """
    from onnx import TensorProto

    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        multiplies = node.op_type in (*FLOAT_CONVOLUTIONS, *FLOAT_LINEARS)
        if multiplies and types.get(node.input[1]) == TensorProto.FLOAT16:
            yield node.input[1]


def _casts(graph: Any) -> int:
    """Count the casts to a floating-point type."""
    from onnx import TensorProto

    floats = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
    casts = [node for node in graph.node if node.op_type == "Cast"]
    return sum(each.i in floats for node in casts for each in node.attribute if each.name == "to")


def _in_integer(node: Any) -> bool:
    """Whether a node multiplies integers; one with 4-bit weights does where it rounds its data to 8 bits."""
    return node.op_type in INTEGER_WEIGHT and (node.op_type != OPERATOR or operator_bits(node)[1] == 8)


def _options(threads: int | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = thread_count(threads)
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4  # errors are raised as well
    # Otherwise its threads spin between two runs, on cores that others are being timed on.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _session(path: Path, options: Any, device: str | None = None) -> Any:
    import onnxruntime

    providers = [(device, dict(PROVIDERS[device].options)), CPU] if device else [CPU]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # its exception types are not public
        raise CompressError(f"ONNX Runtime cannot read {path}: {first_line(error)}") from error
