"""Contents of an ONNX file that runtimes build from: MACs by weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compress.deployment.coverage import products
from compress.quantization.four_bits import OPERATOR
from compress.utils.errors import CompressError, first_line

WEIGHT = {"Conv": 1, "Gemm": 1, "MatMul": 1, "QLinearConv": 3, "QLinearMatMul": 3, "ConvInteger": 1, "MatMulInteger": 1}
"""Operators that multiply with a weight, and the position of the weight among their inputs."""


def macs_by_weight(path: Path) -> tuple[dict[str, int], dict[str, str]]:
    """Count the MACs of one image in each convolution and linear of an ONNX file.

    A layer without a stored weight, such as the product of two activations, does not count as linear. Layers that share
    a weight are one entry.

    Returns:
        The MACs by the name of the stored weight, and for each constant, stored or computed, the stored one's name.

    Raises:
        CompressError: the file cannot be read, or its shapes do not follow from the shape of its input.
    """
    import onnx

    try:
        model = onnx.load(path)
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
        model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
        del model.graph.value_info[:]
        _as_products(model.graph)
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception as error:  # protobuf raises types of its own
        raise CompressError(f"cannot read the ONNX file {path}: {first_line(error)}") from error
    shapes: dict[str, list[int]] = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    stored = {name: name for name in shapes}  # what a constant was made from
    for value in (*graph.value_info, *graph.output):
        shapes[value.name] = [side.dim_value for side in value.type.tensor_type.shape.dim]
    macs: dict[str, int] = {}
    for node in graph.node:
        place = WEIGHT.get(node.op_type)
        if place is not None and node.input[place] in stored:
            output, weight = shapes[node.output[0]], shapes[node.input[place]]
            channels = weight[0] if "Conv" in node.op_type else output[-1]
            name = stored[node.input[place]]
            macs[name] = macs.get(name, 0) + products(output, weight, channels)
        elif node.input and node.input[0] in stored and set(node.input) <= {*stored, ""}:
            stored |= dict.fromkeys(node.output, stored[node.input[0]])
    return macs, stored


def _as_products(graph: Any) -> None:
    """Replace every `MatMulNBits`, whose shapes ONNX cannot infer, by a plain product; packed values stay."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == OPERATOR:
            stated = {attribute.name: attribute.i for attribute in node.attribute}
            stored[node.input[1]].dims[:] = [stated["K"], stated["N"]]
            node.op_type, node.domain = "MatMul", ""
            del node.input[2:], node.attribute[:]
