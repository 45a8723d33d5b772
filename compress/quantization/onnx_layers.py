"""The layers of a quantized ONNX file in QDQ format: integer tensors around float operators.

The exporter names the nodes of the float and the quantized file alike, by which nodes are matched to layers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from compress.measurement.compute import layer_weights
from compress.quantization.four_bits import OPERATOR, operator_bits

if TYPE_CHECKING:
    from onnx import ModelProto

CONVOLUTIONS = ("Conv", "QLinearConv", "ConvInteger")
LAYERS = ("Conv", "Gemm", "MatMul")
INTEGER = ("QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger")  # multiply integers by themselves
MOVES = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split")


def layers_of(proto: ModelProto, model: nn.Module) -> dict[str, str]:
    """Match nodes to the convolutions and linears of the float model; returns names of layers by names of nodes.

    Nodes are matched by the name of their weight, which the exporter keeps, also if they take a part of it, or by its
    values, which it transposes for linears with more than two dimensions.
    """
    from onnx.numpy_helper import to_array

    layers_by_weight = {id(weight): name for name, weight in layer_weights(model)}
    weights = {key: layers_by_weight[id(p)] for key, p in model.named_parameters() if id(p) in layers_by_weight}
    linears = {_digest(w.detach().numpy().T): name for name, w in layer_weights(model) if w.ndim == 2}
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    layers = {}
    for node in proto.graph.node:  # in topological order
        if node.op_type in MOVES and node.input[0] in tensors:
            tensors |= dict.fromkeys(node.output, tensors[node.input[0]])
        elif node.op_type in LAYERS and len(node.input) > 1 and node.input[1] in tensors:
            tensor = tensors[node.input[1]]
            name = weights.get(tensor.name) or linears.get(_digest(to_array(tensor)))
            if name:
                layers[node.name] = name
    return layers


def nodes_of(names: Mapping[str, str], keep: Iterable[str]) -> list[str]:
    """Names of the nodes of the layers `keep`; `names` is the result of `layers_of`."""
    wanted = set(keep)
    return [node for node, layer in names.items() if layer in wanted]


def layer_bits(proto: ModelProto, names: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Find (weight bits, activation bits) of every quantized layer.

    Input and weight are both dequantized from 8-bit integers, or the operator itself has 4-bit weights and states the
    bits of its activations. A layer of several nodes, such as a projection whose weight is split, is quantized if all
    are. `names` is the result of `layers_of` on the float file.
    """
    integer, bits, wide = _integer(proto), dict[str, tuple[int, int]](), set[str]()
    for node in proto.graph.node:
        if node.name in names and node.op_type == OPERATOR:
            bits[names[node.name]] = operator_bits(node)
        elif node.name in names and (node.op_type in INTEGER or integer.issuperset(node.input[:2])):
            bits[names[node.name]] = (8, 8)
        elif node.name in names:
            wide.add(names[node.name])
    return {name: widths for name, widths in bits.items() if name not in wide}


def quantized_convolutions(proto: ModelProto) -> tuple[int, int]:
    """Count the convolutions whose input and weight are both dequantized, and all convolutions."""
    nodes = [node for node in proto.graph.node if node.op_type in CONVOLUTIONS]
    integer = _integer(proto)
    return sum(n.op_type in INTEGER or integer.issuperset(n.input[:2]) for n in nodes), len(nodes)


def broken_scales(proto: ModelProto) -> list[str]:
    """Name the tensors that are rounded to integers by a scale that is not a finite number above 0."""
    from onnx import numpy_helper

    scales = {tensor.name: tensor for tensor in proto.graph.initializer}
    rounds = [node for node in proto.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    found = [(node.input[0], scales[node.input[1]]) for node in rounds if node.input[1] in scales]
    numbers = [(name, numpy_helper.to_array(scale)) for name, scale in found]
    return [name for name, scale in numbers if not (np.isfinite(scale).all() and (scale > 0).all())]


def _integer(proto: ModelProto) -> set[str]:
    """Names of dequantized tensors, also after operators that only move or select their values."""
    integer: set[str] = set()
    for node in proto.graph.node:  # in topological order
        if node.op_type == "DequantizeLinear" or (node.op_type in MOVES and node.input[0] in integer):
            integer |= set(node.output)
    return integer


def _digest(values: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values, np.float32).tobytes() + str(values.shape).encode()).hexdigest()
