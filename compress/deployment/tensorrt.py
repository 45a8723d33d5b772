"""Input of TensorRT: an ONNX file, and the command that makes an engine of it on the machine with the GPU.

An engine goes with its GPU and with TensorRT's version, so it is built there. Of quantized networks TensorRT takes
symmetric ones only: signed 8-bit integers with zero points of 0 (NVIDIA, TensorRT documentation, "Working with
Quantized Types"; the parser's operators.md: "zero point must be zero"). A `quantize` stage makes them with
`target: portable`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compress.deployment.onnx_file import needed_versions
from compress.deployment.runtime import ExportOnlyRuntime, ExportSource
from compress.models.onnx_export import INPUT
from compress.models.onnx_storage import copy_onnx
from compress.utils.errors import CompressError, first_line

BATCHES = (1, 16, 32)  # minimum, usual, maximum
COMMAND = """\
# Makes an engine of {kind} on the machine whose GPU will run it; preprocess.json names the oldest TensorRT.
trtexec --onnx=model.onnx --saveEngine=model.engine {precision}\\
  --minShapes={minimum} --optShapes={usual} --maxShapes={maximum}
# The time of each layer there:
trtexec --loadEngine=model.engine --shapes={usual} --profilingVerbosity=detailed --separateProfileRun --dumpProfile
"""


OLDER = "(TensorRT before 9.0: {flag} in place of --stronglyTyped)"
KINDS = {
    "fp32": "the float network (add --fp16 for half precision)",
    "fp16": f"the network in half precision {OLDER.format(flag='--fp16')}",
    "int8": f"the INT8 network {OLDER.format(flag='--int8')}",
}
"""Words for the networks, by precision."""


class TensorRt(ExportOnlyRuntime):
    """TensorRT on an NVIDIA GPU."""

    format = "tensorrt"
    files = ("model.onnx", "trtexec.txt")
    reads = (".onnx",)
    engine = "onnx"
    packages = ("onnx", "onnxscript")
    install = "pip install 'compress-model[deploy]'"
    quantizers = ("torchao",)
    precisions = ("fp32", "fp16")
    from_onnx = True
    target = "portable"
    runs_on = "on a machine with an NVIDIA GPU, by the command in trtexec.txt beside the file"
    experimental = True

    def build(self, source: ExportSource, folder: Path) -> Path:
        """Write `model.onnx`, and `trtexec.txt` with the command that makes an engine of it."""
        path = copy_onnx(source.onnx(), folder / self.files[0])
        quantized = check(path)
        side = source.resolution
        minimum, usual, maximum = (f"{INPUT}:{batch}x3x{side}x{side}" for batch in BATCHES)
        # the types of the file, and none that TensorRT chooses
        precision = "--stronglyTyped " if quantized or source.precision == "fp16" else ""
        kind = KINDS["int8" if quantized else source.precision]
        text = COMMAND.format(kind=kind, precision=precision, minimum=minimum, usual=usual, maximum=maximum)
        (folder / self.files[1]).write_text(text)
        return path

    def needs(self, path: Path) -> list[str]:
        """State opset and IR version, and the oldest runtimes that know them."""
        return needed_versions(path)


def check(path: Path) -> int:
    """Check that an ONNX file is valid and all its integers are symmetric, and count its quantize nodes.

    Raises:
        CompressError: it is not valid, or a node is not symmetric.
    """
    import onnx
    from onnx import TensorProto, numpy_helper

    try:
        onnx.checker.check_model(str(path), full_check=True)
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as error:  # the checker raises types of its own
        raise CompressError(f"{path} is not valid ONNX: {first_line(error)}") from error
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    for node in nodes:
        scale, zero = (constants.get(name) for name in (*node.input[1:], "", "")[:2])
        if zero is None or zero.data_type != TensorProto.INT8 or numpy_helper.to_array(zero).any():
            raise CompressError(
                f"TensorRT takes signed integers with zero points of 0, which {_describe(node)} does not have: "
                "set `target: portable` in the quantize stage"
            )
        if scale is None or not (numpy_helper.to_array(scale) > 0).all():
            raise CompressError(f"TensorRT takes constant scales above 0, which {_describe(node)} does not have")
    return sum(node.op_type == "QuantizeLinear" for node in nodes)


def _describe(node: Any) -> str:
    return f"the {node.op_type} of {node.input[0]}"
