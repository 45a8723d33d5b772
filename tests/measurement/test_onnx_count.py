"""Multiply-accumulates of ONNX operators that PyTorch's exporter writes in several forms."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper

from compress.measurement.onnx_count import count_onnx


@pytest.mark.parametrize(
    ("equation", "weight", "macs"),
    [
        ("bchw,dc->bdhw", (5, 3), 3 * 5 * 8 * 8),
        ("...hw,wk->...hk", (8, 7), 3 * 8 * 8 * 7),
        ("b...w,...wk->b...k", (1, 1, 8, 7), 3 * 8 * 8 * 7),
        ("bchw->bhwc", None, 0),
    ],
)
def test_einsum(equation: str, weight: tuple[int, ...] | None, macs: int) -> None:
    """One of a single input multiplies nothing."""
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 8, 8])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, None)
    size = 1
    for side in weight or ():
        size *= side
    stored = [helper.make_tensor("w", TensorProto.FLOAT, weight, [1.0] * size)] if weight else []
    node = helper.make_node("Einsum", ["images", *(["w"] if weight else [])], ["output"], "e", equation=equation)
    graph = helper.make_graph([node], "g", [images], [output], stored)
    count = count_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), 8)
    assert sum(count.layers.values()) == macs and not count.uncounted
