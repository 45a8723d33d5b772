"""ONNX export of a network: float as it is, quantized as QDQ (integer tensors around float operators).

The file holds nothing of the machine that wrote it, and the same network gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from functools import cache
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.models.onnx_opset import EXPORTED
from compress.models.onnx_storage import save_onnx
from compress.utils.boundaries import EXPORT_REMEDY, Boundary, failed
from compress.utils.errors import CompressError, first_line
from compress.utils.machine_faults import is_machine_fault

if TYPE_CHECKING:
    from torch import nn

OPSET = 20
INPUT, OUTPUT, EMBEDDING = "images", "logits", "embedding"  # names in ONNX files; of embedding students the last


def write_onnx(model: nn.Module, resolution: int, path: Path, opset: int = OPSET, output: str = OUTPUT) -> None:
    """Write `model` to an ONNX file: `images` float32 `[batch, 3, r, r]` to `output` `[batch, classes]`.

    Its opset is `opset`, or `EXPORTED` if that is newer. Weights of more than 2 GB are in `weights_file(path)`.

    Raises:
        CompressError: the network uses an operator that ONNX lacks.
    """
    proto = _export(model, resolution, max(opset, EXPORTED), output)
    strip_metadata(proto)
    try:
        save_onnx(proto, path)
    except Exception as error:  # protobuf and the checker raise types of their own
        raise CompressError(f"the ONNX file of {type(model).__name__} is not valid: {first_line(error)}") from error


@contextmanager
def exporting(model: nn.Module, action: str) -> Iterator[None]:
    """Export `model` in evaluation mode, without gradients and log lines; its mode is restored.

    Messages say that the model cannot be `action`, as in "exported to ONNX".

    Raises:
        CompressError: the exporter fails.
    """
    import torch

    from compress.utils.quiet import quiet

    training = model.training
    try:
        with quiet(), torch.no_grad():
            model.eval()
            yield
    except CompressError:
        raise
    except Exception as error:  # exporters raise whatever the traced code raises
        if is_machine_fault(error):
            raise
        cause: BaseException = error
        while isinstance(cause, torch.onnx.OnnxExporterError) and cause.__cause__:  # they say where, and the last why
            cause = cause.__cause__
        raise failed(Boundary(action, EXPORT_REMEDY), type(model).__name__, cause) from error
    finally:
        model.train(training)


@contextmanager
def _out_of_place(model: nn.Module, resolution: int) -> Iterator[None]:
    """Let activations return new tensors, unless the model computes something else then: its state is restored.

    The exporter takes in-place ones apart, for ReLU6 in twice the time.
    """
    import torch

    plain = [module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]
    changed = [module for module in plain if getattr(module, "inplace", None) is True]
    images = torch.rand(2, 3, resolution, resolution, generator=torch.Generator().manual_seed(0))
    expected = model(images) if changed else None
    try:
        for module in changed:
            module.inplace = False  # type: ignore[assignment]
        if expected is not None and not torch.equal(model(images), expected):
            for module in changed:
                module.inplace = True  # type: ignore[assignment]
        yield
    finally:
        for module in changed:
            module.inplace = True  # type: ignore[assignment]


@cache
def _keep_operators() -> None:
    """Let PyTorch read the Python source of its ONNX operators once in a process, not in each export again.

    That is a quarter of the time of an export. Where a version of PyTorch keeps them elsewhere, nothing is changed.
    """
    with suppress(ImportError, AttributeError):
        from torch.onnx._internal.exporter._registration import onnxscript_apis  # type: ignore[attr-defined]

        onnxscript_apis.get_torchlib_ops = cache(onnxscript_apis.get_torchlib_ops)


def _export(model: nn.Module, resolution: int, opset: int, output: str) -> Any:
    import torch

    from compress.models.attention import FourDimensionalAttention

    _keep_operators()
    example = torch.zeros(2, 3, resolution, resolution)  # from one image, the exporter would infer a fixed batch of one
    with (
        exporting(model, "exported to ONNX"),
        _out_of_place(model, resolution),
        FourDimensionalAttention(),
        redirect_stderr(StringIO()),  # a failed export prints the graph so far
    ):
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=[INPUT],
            output_names=[output],
            opset_version=opset,
            external_data=False,
            verbose=False,
        )
        assert program is not None
        return program.model_proto


def strip_metadata(proto: Any) -> None:
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
