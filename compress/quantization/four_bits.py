"""4-bit weights in the linear layers of an ONNX file, by ONNX Runtime's block quantizer (`MatMulNBits`).

Each block of 32 weights of an output has its own float scale and 4-bit zero point: 5.1 bits per weight in all. The
operator requests 8-bit activations, which ONNX Runtime quantizes dynamically, block by block, so they need no
calibration. There is no such operator for convolutions.
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
"""The operator's `accuracy_level` for 8-bit activations
(https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md)."""


def quantize_linears(proto: ModelProto, nodes: Sequence[str]) -> ModelProto:
    """Quantize the stored weights of the `nodes` (`Gemm` or `MatMul`) to 4 bits; `proto` may be changed."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    for name in nodes:
        _split_gemm(proto, name)
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
    """Read (weight bits, activation bits) of a `MatMulNBits` node."""
    stated = {attribute.name: attribute.i for attribute in node.attribute}
    return stated["bits"], 8 if stated.get("accuracy_level") == INT8_ACTIVATIONS else 32


def _split_gemm(proto: ModelProto, name: str) -> None:
    """Replace a `Gemm` with a stored weight by the `MatMul` and `Add` that the quantizer supports.

    One that scales or transposes its data stays, and with it its float weight.
    """
    from onnx import helper, numpy_helper

    index, node = next((i, node) for i, node in enumerate(proto.graph.node) if node.name == name)
    stated = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type != "Gemm" or stated.get("transA") or {stated.get("alpha", 1.0), stated.get("beta", 1.0)} != {1.0}:
        return
    data, weight, *bias = node.input
    if stated.get("transB"):
        constants = {tensor.name: tensor for tensor in proto.graph.initializer}
        stored, weight = constants[weight], f"{weight}.T"
        if weight not in constants:  # two layers may share it
            proto.graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(stored).T.copy(), weight))
    output = node.output[0]
    product = f"{output}_product" if bias else output
    node.CopyFrom(helper.make_node("MatMul", [data, weight], [product], name=name))
    if bias:
        proto.graph.node.insert(index + 1, helper.make_node("Add", [product, *bias], [output], name=f"{name}_bias"))
