"""MACs of an ONNX file by layer, by the conventions of `compress.measurement.compute`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from compress.measurement.compute import Count
from compress.utils.boundaries import BOUNDARIES, failed
from compress.utils.system import thread_count

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

Shape = Sequence[int]
CONVOLUTION, LINEAR, PRODUCT = "convolution", "linear", "product"
UNCHANGED = ("DequantizeLinear", "QuantizeLinear", "Identity", "Cast", "Transpose", "Reshape")
"""Operators through which a stored weight reaches its layer."""
STANDARD = ("", "ai.onnx", "ai.onnx.ml")  # domains of ONNX's own operators
COSTLY = frozenset({"Attention", "DeformConv", "GRU", "If", "LSTM", "Loop", "RNN", "Scan", "TfIdfVectorizer"})
"""ONNX's operators that multiply in bulk, or hold graphs that do, and have no formula here."""


class Operator(NamedTuple):
    """How an operator multiplies."""

    kind: str
    data: int  # position of the data among the inputs
    weight: int  # position of the weight, or of the second factor
    macs: Callable[[Shape, Shape, Shape, NodeProto], int]  # (data, weight, output, node): MACs of one call


def _convolution(data: Shape, weight: Shape, output: Shape, node: NodeProto) -> int:
    return prod(output) * prod(weight[1:])


def _transposed(data: Shape, weight: Shape, output: Shape, node: NodeProto) -> int:
    return prod(data) * prod(weight[1:])


def _product(data: Shape, weight: Shape, output: Shape, node: NodeProto) -> int:
    return prod(output) * data[-1]


def _gemm(data: Shape, weight: Shape, output: Shape, node: NodeProto) -> int:
    return prod(output) * data[0 if any(a.name == "transA" and a.i for a in node.attribute) else -1]


def _einsum(data: Shape, weight: Shape, output: Shape, node: NodeProto) -> int:
    terms = next(a.s.decode() for a in node.attribute if a.name == "equation").replace(" ", "").split("->")[0]
    sides: dict[str, int] = {}
    for term, shape in zip(terms.split(","), (data, weight), strict=True):
        before, dots, after = term.partition("...")
        broadcast = [f"...{place}" for place in range(len(shape) - len(before) - len(after), 0, -1)] if dots else []
        for label, side in zip((*before, *broadcast, *after), shape, strict=True):
            sides[label] = max(sides.get(label, 1), side)
    return prod(sides.values())


OPERATORS = {
    "Conv": Operator(CONVOLUTION, 0, 1, _convolution),
    "ConvInteger": Operator(CONVOLUTION, 0, 1, _convolution),
    "QLinearConv": Operator(CONVOLUTION, 0, 3, _convolution),
    "ConvTranspose": Operator(PRODUCT, 0, 1, _transposed),
    "Gemm": Operator(LINEAR, 0, 1, _gemm),
    "MatMul": Operator(LINEAR, 0, 1, _product),
    "MatMulInteger": Operator(LINEAR, 0, 1, _product),
    "QLinearMatMul": Operator(LINEAR, 0, 3, _product),
    "MatMulNBits": Operator(LINEAR, 0, 1, _product),
    "Einsum": Operator(PRODUCT, 0, 1, _einsum),
}


@dataclass(frozen=True)
class Layer:
    """A node that multiplies."""

    name: str  # of its weight or bias without `.weight` or `.bias`, which exporters keep from PyTorch; else of the node
    kind: str  # convolution, linear, or product of two activations
    node: NodeProto
    weight: str | None  # name of its stored weight


def layers(graph: GraphProto) -> list[Layer]:
    """List the nodes of a graph that multiply, in graph order; names are unique."""
    origin = stored_tensors(graph)
    found = [
        (node, OPERATORS[node.op_type]) for node in graph.node if node.op_type in OPERATORS and len(node.input) > 1
    ]
    weights = [origin.get(node.input[operator.weight]) for node, operator in found]
    uses = Counter(weights)
    biases = _added_biases(graph)
    named = []
    for (node, operator), weight in zip(found, weights, strict=True):
        short = (weight or "").removesuffix("_quantized").removesuffix("_Q4")
        stem = short.removesuffix(".weight") if short.endswith(".weight") else biases.get(node.output[0], "")
        name = stem if weight and stem and uses[weight] == 1 else node.name
        name = ".".join(part for part in name.split(".") if part)  # as modules are named
        named.append(Layer(name, operator.kind if weight else PRODUCT, node, weight))
    names = Counter(layer.name for layer in named)
    return [layer if names[layer.name] == 1 else replace(layer, name=layer.node.name) for layer in named]


def _added_biases(graph: GraphProto) -> dict[str, str]:
    """Map tensors to the layer whose stored bias `LAYER.bias` is added to them."""
    layer = {t.name: t.name.removesuffix(".bias") for t in graph.initializer if t.name.endswith(".bias")}
    sums = [node.input for node in graph.node if node.op_type == "Add"]
    return {data: layer[bias] for pair in sums for data, bias in (pair, reversed(pair)) if bias in layer}


def stored_tensors(graph: GraphProto) -> dict[str, str]:
    """Map each constant, stored or computed from stored ones, to the name of the stored tensor it was made from."""
    origin = {tensor.name: tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in UNCHANGED and node.input[0] in origin:
            origin |= dict.fromkeys(node.output, origin[node.input[0]])
    return origin


def count_onnx(proto: ModelProto, resolution: int) -> Count:
    """Count the MACs of one image in an ONNX file `[batch, 3, r, r]`.

    Shapes are those of one image that is run, since shape inference gives up where shapes are computed.

    Raises:
        CompressError: ONNX Runtime does not run the file.
    """
    graph = proto.graph
    found = layers(graph)
    wanted = [name for layer in found for name in (*layer.node.input[:4], layer.node.output[0])]
    shapes = tensor_shapes(proto, wanted, np.zeros((1, 3, resolution, resolution), np.float32))
    macs: dict[str, int] = {}
    operators: Counter[str] = Counter()
    uncounted = Counter(f"onnx.{n.op_type}" for n in graph.node if n.op_type in COSTLY or _unknown(n))
    for layer in found:
        operator = OPERATORS[layer.node.op_type]
        if layer.node.op_type == "Einsum" and len(layer.node.input) != 2:
            uncounted["onnx.Einsum"] += 1
            continue
        data, weight = (shapes[layer.node.input[place]] for place in (operator.data, operator.weight))
        macs[layer.name] = operator.macs(data, weight, shapes[layer.node.output[0]], layer.node)
        operators[f"onnx.{layer.node.op_type}"] += macs[layer.name]
    return Count(macs, dict(operators), dict(uncounted))


def _unknown(node: NodeProto) -> bool:
    """Whether an operator is neither ONNX's own nor counted."""
    return node.domain not in STANDARD and node.op_type not in OPERATORS


def tensor_shapes(proto: ModelProto, names: Iterable[str], images: np.ndarray[Any, Any]) -> Mapping[str, Shape]:
    """Run images `[b, 3, r, r]` through an ONNX file and return the shapes of the named tensors.

    Raises:
        CompressError: ONNX Runtime does not run it.
    """
    shapes: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    shapes[proto.graph.input[0].name] = images.shape
    missing = [name for name in dict.fromkeys(names) if name and name not in shapes]
    try:
        session = session_with(proto, missing)
        values = session.run(missing, {proto.graph.input[0].name: images}) if missing else []
    except Exception as error:  # its exception types are not public
        raise failed(BOUNDARIES["ONNX Runtime"], "the ONNX file", error) from error
    return {**shapes, **{name: np.shape(value) for name, value in zip(missing, values, strict=True)}}


def session_with(proto: ModelProto, names: Iterable[str]) -> Any:
    """Load an ONNX file in ONNX Runtime as it is, without optimisations, with the named tensors as further outputs."""
    import onnx
    import onnxruntime

    shown = onnx.ModelProto()
    shown.CopyFrom(proto)
    known = {output.name for output in shown.graph.output}
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names) if name not in known)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = thread_count(None)  # it sees no CPU quota itself
    options.log_severity_level = 4  # errors are raised as well
    return onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
