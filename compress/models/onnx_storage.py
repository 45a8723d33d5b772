"""Writing ONNX files: whole, or with their weights in a second file where one message cannot hold them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto

MAX_BYTES = 2**31 - 2**24
"""Weights that go into one file: protobuf reads messages of up to 2 GB; the rest is for the graph."""
MIN_TENSOR = 1024  # bytes of the smallest tensor that moves; smaller ones have shapes, which the graph needs


def weights_file(path: Path) -> Path:
    """Return the second file of an ONNX file, which only a network of more than 2 GB has."""
    return path.with_name(f"{path.name}.data")


def save_onnx(proto: ModelProto, path: Path) -> None:
    """Check a network and write it; the same network gives the same bytes.

    Raises:
        onnx.checker.ValidationError, onnx.shape_inference.InferenceError: it is not valid.
    """
    import onnx

    weights = weights_file(path)
    weights.unlink(missing_ok=True)
    if sum(len(tensor.raw_data) for tensor in proto.graph.initializer) <= MAX_BYTES:
        data = proto.SerializeToString(deterministic=True)
        onnx.checker.check_model(data, full_check=True)
        path.write_bytes(data)
        return
    onnx.save_model(proto, path, save_as_external_data=True, location=weights.name, size_threshold=MIN_TENSOR)
    onnx.checker.check_model(str(path), full_check=True)


def copy_onnx(source: Path, path: Path) -> Path:
    """Copy an ONNX file, with its weights where they are in a second file; returns the copy."""
    if weights_file(source).is_file():
        shutil.copy(weights_file(source), weights_file(path))
    return Path(shutil.copy(source, path))
