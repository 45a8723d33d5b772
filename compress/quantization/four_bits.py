"""Weights of 4 bits in the linear layers of an ONNX file, by ONNX Runtime's block quantizer (`MatMulNBits`).

Each block of 32 weights of an output has a scale of its own, in float, and a zero point of 4 bits: 5.1 bits a weight in
all. The operator asks for activations of 8 bits, which ONNX Runtime rounds as they come, block by block as well, so
nothing is calibrated for it. There is no such operator for convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

OPERATOR, DOMAIN = "MatMulNBits", "com.microsoft"
BITS = 4
BLOCK = 32
INT8_ACTIVATIONS = 4
"""The operator's `accuracy_level` at which it rounds activations to 8 bits
(https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md)."""


def quantize_linears(proto: ModelProto, nodes: Sequence[str]) -> ModelProto:
    """Quantize linear layers to weights of 4 bits; the nodes keep their names.

    Args:
        proto: A file in which these layers are in float; it may be changed.
        nodes: Names of their nodes, `Gemm` or `MatMul` with a stored weight.
    """
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    for name in nodes:
        _without_gemm(proto, name)
    quantizer = MatMulNBitsQuantizer(
        proto,
        BITS,
        BLOCK,
        accuracy_level=INT8_ACTIVATIONS,
        nodes_to_exclude=[node.name for node in proto.graph.node if node.name not in set(nodes)],
    )
    quantizer.process()
    made: ModelProto = quantizer.model.model
    for node in made.graph.node:
        if node.op_type == OPERATOR:
            node.name = node.name.removesuffix(f"_Q{BITS}")
    return made


def operator_bits(node: NodeProto) -> tuple[int, int]:
    """(weight bits, activation bits) that a `MatMulNBits` node states."""
    stated = {attribute.name: attribute.i for attribute in node.attribute}
    return stated["bits"], 8 if stated.get("accuracy_level") == INT8_ACTIVATIONS else 32


def _without_gemm(proto: ModelProto, name: str) -> None:
    """Make a `Gemm` of images and a stored weight into the `MatMul` and `Add` that the quantizer knows."""
    from onnx import helper, numpy_helper

    index, node = next((i, node) for i, node in enumerate(proto.graph.node) if node.name == name)
    if node.op_type != "Gemm":
        return
    data, weight, *bias = node.input
    if any(attribute.name == "transB" and attribute.i for attribute in node.attribute):
        stored = next(tensor for tensor in proto.graph.initializer if tensor.name == weight)
        weight = f"{weight}.T"
        proto.graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(stored).T.copy(), weight))
    output = node.output[0]
    product = f"{output}_product" if bias else output
    node.CopyFrom(helper.make_node("MatMul", [data, weight], [product], name=name))
    if bias:
        proto.graph.node.insert(index + 1, helper.make_node("Add", [product, *bias], [output], name=f"{name}_bias"))
