"""Opset and IR version of ONNX files: older ones run in older runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compress.utils.errors import CompressError, first_line

if TYPE_CHECKING:
    from onnx import ModelProto

EXPORTED = 18
"""Opset below which PyTorch's exporter does not write."""


def write_at_opset(path: Path, opset: int | None, ir_version: int | None = None) -> None:
    """Convert a file to an opset, and to an IR version, by default the oldest that has the opset.

    Weights in a second file stay as they are.

    Args:
        path: The file.
        opset: Version of the standard operators; None for that of the file.
        ir_version: Version of the file format.

    Raises:
        CompressError: the network has an operator that does not exist there, or the opset needs a newer IR version.
    """
    import onnx

    proto = onnx.load(path, load_external_data=False)
    proto = at_opset(proto, opset or opset_of(proto))
    if ir_version and ir_version < proto.ir_version:
        raise CompressError(
            f"opset {opset_of(proto)} needs IR version {proto.ir_version}, not {ir_version}; set an older `opset`"
        )
    proto.ir_version = ir_version or proto.ir_version
    path.write_bytes(proto.SerializeToString(deterministic=True))
    if _is_apart(proto):
        onnx.checker.check_model(str(path), full_check=True)


def at_opset(proto: ModelProto, opset: int) -> ModelProto:
    """Convert a network to an opset; the names of its input and output stay.

    Raises:
        CompressError: it has an operator that does not exist there.
    """
    import onnx

    if opset_of(proto) != opset:
        try:
            proto = onnx.version_converter.convert_version(proto, opset)
            _remove_defaults(proto)
            if not _is_apart(proto):  # the checker looks for weights beside a path
                onnx.checker.check_model(proto, full_check=True)
        except Exception as error:  # its converter, written in C++, and its checker raise types of their own
            reason = first_line(error).rpartition("Assertion `false` failed: ")[2]
            message = f"the network cannot be written at opset {opset}: {reason}; set a newer `opset`"
            raise CompressError(message) from error
    return at_least_ir(proto)


def at_least_ir(proto: ModelProto) -> ModelProto:
    """State the oldest IR version that the file's opsets have: a runtime refuses files of one that it does not know."""
    from onnx import helper

    least = helper.find_min_ir_version_for(proto.opset_import, ignore_unknown=True)
    proto.ir_version = min(proto.ir_version, least)
    return proto


def opset_of(proto: ModelProto) -> int:
    """Return the version of the standard operators."""
    return max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def _is_apart(proto: ModelProto) -> bool:
    """Whether weights are in a second file."""
    return any(tensor.external_data for tensor in proto.graph.initializer)


def _remove_defaults(proto: ModelProto) -> None:
    """Remove what the converter leaves of newer operators, where it changes nothing: empty axes that mean all axes."""
    for node in proto.graph.node:
        if node.op_type.startswith("Reduce"):
            for attribute in [each for each in node.attribute if each.name == "noop_with_empty_axes" and each.i == 0]:
                node.attribute.remove(attribute)
