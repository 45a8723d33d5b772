"""Contents of an ONNX file that runtimes build from: MACs by weight."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from compress.deployment.coverage import products
from compress.models.onnx_opset import opset_of
from compress.quantization.four_bits import OPERATOR
from compress.utils.errors import CompressError, first_line


class Oldest(NamedTuple):
    """Oldest versions that read a file."""

    onnx_runtime: tuple[int, int]
    tensorrt: tuple[int, int] = (0, 0)


OPSETS = {
    17: Oldest((1, 12), (8, 5)),
    18: Oldest((1, 14), (10, 0)),
    19: Oldest((1, 15), (10, 0)),
    20: Oldest((1, 17), (10, 0)),
}
"""By opset (https://onnxruntime.ai/docs/reference/compatibility.html; operators.md of onnx-tensorrt by release)."""

IR_VERSIONS = {8: Oldest((1, 12)), 9: Oldest((1, 15)), 10: Oldest((1, 18))}
"""By IR version; 8 is older, but no opset here goes with less."""

WEIGHT = {"Conv": 1, "Gemm": 1, "MatMul": 1, "QLinearConv": 3, "QLinearMatMul": 3, "ConvInteger": 1, "MatMulInteger": 1}
"""Operators that multiply with a weight, and the position of the weight among their inputs."""


def macs_by_weight(path: Path) -> tuple[dict[str, int], dict[str, str]]:
    """Count the MACs of one image in each convolution and linear of an ONNX file.

    A layer without a stored weight, such as the product of two activations, does not count as linear. Layers that share
    a weight are one entry.

    Returns:
        The MACs by the name of the stored weight, and for each constant, stored or computed, the stored one's name.

    Raises:
        CompressError: the file cannot be read, or shapes do not follow from that of its input and it does not run.
    """
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
        model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
        del model.graph.value_info[:]
        _as_products(model.graph)
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception as error:  # protobuf raises types of its own
        raise CompressError(f"cannot read the ONNX file {path}: {first_line(error)}") from error
    stored = {tensor.name: tensor.name for tensor in graph.initializer}  # what a constant was made from
    layers: list[tuple[Any, str]] = []
    for node in graph.node:
        place = WEIGHT.get(node.op_type)
        if place is not None and node.input[place] in stored:
            layers.append((node, node.input[place]))
        elif node.input and node.input[0] in stored and set(node.input) <= {*stored, ""}:
            stored |= dict.fromkeys(node.output, stored[node.input[0]])
    shapes = _shapes(path, graph, [name for node, weight in layers for name in (node.output[0], weight)])
    macs: dict[str, int] = {}
    for node, name in layers:
        output, weight = shapes[node.output[0]], shapes[name]
        channels = weight[0] if "Conv" in node.op_type else output[-1]
        macs[stored[name]] = macs.get(stored[name], 0) + products(output, weight, channels)
    return macs, stored


def _shapes(path: Path, graph: Any, wanted: Iterable[str]) -> dict[str, Sequence[int]]:
    """Return the shapes of tensors for one image.

    ONNX's inference stops behind operators that are not ONNX's own, such as `com.microsoft.Gelu`, and where shapes are
    computed; then one image is run.
    """
    import onnx

    shapes: dict[str, Sequence[int]] = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape"):
            shapes[value.name] = [side.dim_value for side in tensor.shape.dim]
    unknown = [name for name in wanted if name not in shapes or 0 in shapes[name]]
    if unknown:
        from compress.measurement.onnx_count import tensor_shapes

        sides = [side.dim_value for side in graph.input[0].type.tensor_type.shape.dim]
        shapes |= tensor_shapes(onnx.load(path), unknown, np.zeros(sides, np.float32))
    return shapes


def needed_versions(path: Path) -> list[str]:
    """State the oldest ONNX Runtime and TensorRT that read a file of this opset and IR version; nothing if unknown."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    opset, ir = opset_of(model), model.ir_version
    lines = [f"ONNX opset {opset}, IR version {ir}"]
    if opset <= max(OPSETS) and ir <= max(IR_VERSIONS):
        oldest = max(_least(OPSETS, opset).onnx_runtime, _least(IR_VERSIONS, ir).onnx_runtime)
        lines.append(f"ONNX Runtime {_text(oldest)} or newer, also as Triton's backend")
        lines.append(f"TensorRT {_text(_least(OPSETS, opset).tensorrt)} or newer")
    return lines


def _least(table: Mapping[int, Oldest], version: int) -> Oldest:
    return table[min(known for known in table if known >= version)]


def _text(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _as_products(graph: Any) -> None:
    """Replace every `MatMulNBits`, whose shapes ONNX cannot infer, by a plain product; packed values stay."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == OPERATOR:
            stated = {attribute.name: attribute.i for attribute in node.attribute}
            stored[node.input[1]].dims[:] = [stated["K"], stated["N"]]
            node.op_type, node.domain = "MatMul", ""
            del node.input[2:], node.attribute[:]
