"""ONNX export of a network: float as it is, quantized as QDQ (integer tensors around float operators).

The file holds nothing of the machine that wrote it, and the same network gives the same bytes.
"""

from __future__ import annotations

from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.utils.errors import CompressError, first_line

if TYPE_CHECKING:
    from torch import nn

OPSET = 20
INPUT, OUTPUT = "images", "logits"


def write_onnx(model: nn.Module, resolution: int, path: Path) -> None:
    """Write `model` to one ONNX file: `images` float32 `[batch, 3, r, r]` to `logits` `[batch, classes]`.

    Raises:
        CompressError: the network uses an operator that ONNX lacks, or needs more than one file can hold (2 GB).
    """
    import onnx

    proto = _export(model, resolution)
    _strip(proto)
    try:
        data = proto.SerializeToString(deterministic=True)
        onnx.checker.check_model(data, full_check=True)
    except Exception as error:  # protobuf and the checker raise types of their own
        raise CompressError(f"the ONNX file of {type(model).__name__} is not valid: {first_line(error)}") from error
    path.write_bytes(data)


def _export(model: nn.Module, resolution: int) -> Any:
    import torch

    from compress.utils.quiet import quiet

    example = torch.zeros(2, 3, resolution, resolution)  # from one image, the exporter would infer a fixed batch of one
    training = model.training
    try:
        with quiet(), redirect_stderr(StringIO()), torch.no_grad():  # a failed export prints the graph so far
            program = torch.onnx.export(
                model.eval(),
                (example,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
            assert program is not None
            return program.model_proto
    except Exception as error:  # the exporter raises whatever the traced code raises
        cause = first_line(error.__cause__ or error)
        raise CompressError(f"{type(model).__name__} cannot be exported to ONNX: {cause}") from error
    finally:
        model.train(training)


def _strip(proto: Any) -> None:
    """Remove stack traces, which name folders of this machine, and all other metadata that no runtime reads."""
    proto.ClearField("metadata_props")
    proto.ClearField("doc_string")
    for graph in (proto.graph, *proto.functions):
        for field in ("node", "input", "output", "value_info", "initializer"):
            for entry in getattr(graph, field, ()):
                _clear(entry)
        _clear(graph)


def _clear(message: Any) -> None:
    for field in ("metadata_props", "doc_string"):
        if field in message.DESCRIPTOR.fields_by_name:
            message.ClearField(field)
