"""ONNX networks in FP16: float32 at both ends, and what does not fit FP16 is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.models.onnx_half import write_half
from compress.utils.errors import CompressError

HALVES = {TensorProto.FLOAT16}


def save(path: Path, nodes: list[onnx.NodeProto], **weights: np.ndarray) -> Path:
    """Write a network of these nodes, from `images` to `logits`."""
    ends = [
        helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 8, 8]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 5]),
    ]
    stored = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def classifier(path: Path, largest: float = 1.0, between: tuple[str, ...] = ("Relu",)) -> Path:
    """Write a convolution, operators without settings, a mean and a linear layer."""
    rng = np.random.default_rng(0)
    names = ["conv", *(f"{kind}{number}" for number, kind in enumerate(between))]
    inner = [helper.make_node(kind, [a], [b]) for kind, a, b in zip(between, names, names[1:], strict=False)]
    weight = rng.normal(size=(4, 3, 3, 3)) * 0.1
    weight[0, 0, 0, 0] = largest
    nodes = [
        helper.make_node("Conv", ["images", "weight"], ["conv"], pads=[1, 1, 1, 1]),
        *inner,
        helper.make_node("GlobalAveragePool", [names[-1]], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "linear", "bias"], ["logits"], transB=1),
    ]
    return save(path, nodes, weight=weight, linear=rng.normal(size=(5, 4)), bias=rng.normal(size=5))


def run(path: Path, seed: int = 0) -> np.ndarray:
    import onnxruntime

    images = np.random.default_rng(seed).normal(size=(3, 3, 8, 8)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    logits: np.ndarray = session.run(None, {"images": images})[0]
    return logits


@pytest.mark.parametrize("between", [("Relu",), ("Max", "Erf", "Relu")], ids=["plain", "operators that stay in FP32"])
def test_weights_are_halved_and_both_ends_stay_float32(tmp_path: Path, between: tuple[str, ...]) -> None:
    whole, half = classifier(tmp_path / "whole.onnx", between=between), tmp_path / "half.onnx"
    write_half(whole, half)
    graph = onnx.load(half).graph
    assert {tensor.data_type for tensor in graph.initializer} == HALVES
    ends = [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)]
    assert ends == [TensorProto.FLOAT] * 2 and [graph.input[0].name, graph.output[0].name] == ["images", "logits"]
    difference = np.abs(run(half) - run(whole)).max()
    assert 0 < difference < 5e-3
    again = tmp_path / "again.onnx"
    write_half(whole, again)
    assert again.read_bytes() == half.read_bytes()


def test_weights_beyond_its_range_are_refused(tmp_path: Path) -> None:
    for largest, fits in ((65504.0, True), (65505.0, False), (-1e9, False)):
        path = classifier(tmp_path / "whole.onnx", largest)
        if fits:
            write_half(path, tmp_path / "half.onnx")
            continue
        with pytest.raises(CompressError, match=r"the weight weight has values up to .* FP16 ends at 65504; export"):
            write_half(path, tmp_path / "half.onnx")


def test_a_network_that_is_not_valid_is_one_line(tmp_path: Path) -> None:
    path = save(tmp_path / "model.onnx", [helper.make_node("NoSuchOperator", ["images"], ["logits"])])
    with pytest.raises(CompressError, match=r"^the network cannot be written in FP16: .*NoSuchOperator[^\n]*$"):
        write_half(path, tmp_path / "half.onnx")
