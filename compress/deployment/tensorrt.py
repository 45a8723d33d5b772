"""What TensorRT takes as input: an ONNX file, and the command that makes an engine of it where the GPU is.

An engine goes with its GPU and with TensorRT's version, so it is built there. Of quantized networks TensorRT takes
symmetric ones alone: signed 8-bit integers with zero points of 0 (NVIDIA, TensorRT documentation, "Working with
Quantized Types"; the parser's operators.md: "zero point must be zero"). A `quantize` stage makes them with
`target: portable`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.deployment.coverage import Coverage
from compress.deployment.runtimes import Runner, not_run_here
from compress.models.onnx_export import INPUT
from compress.utils.errors import CompressError, first_line

if TYPE_CHECKING:
    from compress.deployment.export import Source

NAME = "tensorrt"
FORMAT = "tensorrt"
READS = (".onnx",)
ENGINE = "onnx"
PACKAGES = ("onnx", "onnxscript")
PROGRAMS = ()
ADD = "pip install 'compress-model[deploy]'"
QUANTIZED = ("torchao",)
PORTABLE = True
ELSEWHERE = "on a machine with an NVIDIA GPU, by the command in trtexec.txt beside the file"
TARGET = "portable"

BATCHES = (1, 16, 32)  # least, usual, most
COMMAND = """\
# Makes an engine of {kind} on the machine whose GPU will run it, with TensorRT 10 or newer.
trtexec --onnx=model.onnx --saveEngine=model.engine {precision}\\
  --minShapes={least} --optShapes={usual} --maxShapes={most}
"""


def build(source: Source, folder: Path) -> Path:
    """Write `model.onnx`, and `trtexec.txt` with the command that makes an engine of it.

    Raises:
        CompressError: the network cannot be exported, or is quantized in a way that TensorRT does not take.
    """
    path = Path(shutil.copy(source.onnx(), folder / "model.onnx"))
    quantized = check(path)
    side = source.resolution
    least, usual, most = (f"{INPUT}:{batch}x3x{side}x{side}" for batch in BATCHES)
    precision = "--stronglyTyped " if quantized else ""  # the integers of the file, and none that TensorRT chooses
    kind = "the INT8 network" if quantized else "the float network (add --fp16 for half precision)"
    text = COMMAND.format(kind=kind, precision=precision, least=least, usual=usual, most=most)
    (folder / "trtexec.txt").write_text(text)
    return path


def check(path: Path) -> int:
    """Check that an ONNX file is valid and that all its integers are symmetric; gives its quantize nodes.

    Raises:
        CompressError: it is not, with the node.
    """
    import onnx
    from onnx import TensorProto, numpy_helper

    try:
        onnx.checker.check_model(str(path), full_check=True)
        graph = onnx.load(path).graph
    except Exception as error:  # the checker raises types of its own
        raise CompressError(f"{path} is not valid ONNX: {first_line(error)}") from error
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    for node in nodes:
        scale, zero = (constants.get(name) for name in (*node.input[1:], "", "")[:2])
        if zero is None or zero.data_type != TensorProto.INT8 or numpy_helper.to_array(zero).any():
            raise CompressError(
                f"TensorRT takes signed integers with zero points of 0, and {_what(node)} has others: "
                "set `target: portable` in the quantize stage"
            )
        if scale is None or not (numpy_helper.to_array(scale) > 0).all():
            raise CompressError(f"TensorRT takes constant scales above 0, and {_what(node)} has another")
    return sum(node.op_type == "QuantizeLinear" for node in nodes)


def load(path: Path, threads: int | None = None) -> Runner:
    """Say where the file runs.

    Raises:
        CompressError: always.
    """
    raise not_run_here(NAME, ELSEWHERE)


def coverage(path: Path) -> Coverage:
    """Say where that could be known: TensorRT chooses when it builds an engine.

    Raises:
        CompressError: always.
    """
    raise not_run_here(NAME, ELSEWHERE)


def _what(node: Any) -> str:
    return f"the {node.op_type} of {node.input[0]}"
