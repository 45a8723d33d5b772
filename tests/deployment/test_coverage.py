"""The MACs of runtimes are those of the counter, whatever the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from deployment.tiny_classifier import ONNX_RUNTIMES, PREPROCESS
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from compress.deployment.coverage import Coverage
from compress.deployment.export import export
from compress.deployment.onnx_file import macs_by_weight
from compress.deployment.runtimes import find_runtime
from compress.measurement.compute import weight_macs
from compress.models.factory import create_model

SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("mobilenetv3_small_050", "vit_tiny_patch16_224")]


@pytest.mark.parametrize("name", ["resnet18", *SLOW])
def test_the_macs_are_those_that_the_counter_has(name: str, tmp_path: Path) -> None:
    model = create_model("timm", name, 5, 32).eval()
    built = export(model, tmp_path, ONNX_RUNTIMES, {**PREPROCESS, "resolution": 32})
    for runtime, path in built.items():
        found = find_runtime(runtime).coverage(path)
        assert (found.integer_macs, found.macs) == (0, weight_macs(model, 32)), runtime
        assert found.convs == sum(isinstance(module, nn.Conv2d) for module in model.modules())


def test_products_of_two_activations_are_no_linears() -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(12, 7)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images @ images.transpose(2, 3) @ self.linear(images).transpose(2, 3).mean(1, keepdim=True).mT

    assert weight_macs(Product(), 12) == 3 * 12 * 12 * 7


def test_a_share_is_unknown_where_a_part_is() -> None:
    assert Coverage(1, 2, 30, 40).share == 0.75 and Coverage(0, 2, 0, 40).share == 0
    assert Coverage(1, 2, None, 40).share is None and Coverage(1, 2, 30, None).share is None


@pytest.mark.parametrize("stored", [True, False])
def test_weights_are_told_from_activations_in_deep_networks(stored: bool) -> None:
    openvino = pytest.importorskip("openvino")
    from openvino import opset13 as op

    from compress.deployment.open_vino import _macs

    images = op.parameter([4, 4], np.float32)
    deep = op.constant(np.eye(4, dtype=np.float32)) if stored else images
    for _ in range(1200):  # deeper than Python's recursion goes, and each used twice
        deep = op.add(deep, deep)
    linear = op.matmul(images, deep, False, False)
    model = openvino.Model([op.result(linear)], [images])
    assert list(_macs(model).values()) == ([4 * 4 * 4] if stored else [])


def test_tokens_before_the_batch_are_counted_by_xnnpack() -> None:
    """A linear of attention gives [tokens, 1, features]: 7 x 12 outputs of 4 products each."""
    from compress.deployment.xnnpack_graph import _integer

    dims = {0: [7, 1, 4], 1: [12, 4], 2: [7, 1, 12]}
    values = [
        {"xvalue_union": {"tensor_value": {"id_out": name, "dims": sides, "datatype": "xnn_datatype_qint8"}}}
        for name, sides in dims.items()
    ]
    linear = {"input1_id": 0, "filter_id": 1, "output_id": 2}
    graph = {"xvalues": values, "xnodes": [{"xnode_union_type": "_XNNFullyConnected", "xnode_union": linear}]}
    assert list(_integer(graph)) == [("XNNFullyConnected", 7 * 12 * 4)]


@pytest.mark.slow
def test_attention_is_integer_throughout_in_executorch(tmp_path: Path) -> None:
    pytest.importorskip("executorch")
    from deployment.tiny_classifier import images

    from compress.quantization.config import QuantizationConfig
    from compress.quantization.ptq import quantize

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.attention = nn.Conv2d(3, 8, 4, 4), nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(8, 5)

        def forward(self, given: torch.Tensor) -> torch.Tensor:
            tokens = self.patches(given).flatten(2).mT
            return self.head(self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    config = QuantizationConfig(observer="minmax", reduce_range=False)
    graph = quantize(Attention().eval(), [images(8)], images(2), config, "xnnpack").network
    path = export(graph, tmp_path, ["executorch"], PREPROCESS)["executorch"]
    assert find_runtime("executorch").coverage(path).share == 1.0


class Interpreter:
    """LiteRT's interpreter of a file with one linear of attention, in float."""

    def __init__(self, weights: type) -> None:
        self.weights = weights

    def get_tensor_details(self) -> list[dict[str, object]]:
        stored = {0: np.float32, 1: np.float32, 2: np.float32, 3: self.weights}
        sides = {0: [7, 1, 4], 1: [12, 4], 2: [7, 1, 12], 3: [12, 4]}
        return [{"index": name, "dtype": dtype, "shape": np.array(sides[name])} for name, dtype in stored.items()]

    def _get_ops_details(self) -> list[dict[str, object]]:
        return [{"op_name": "FULLY_CONNECTED", "inputs": [0, 1], "outputs": [2]}]


@pytest.mark.parametrize(("weights", "half"), [(np.float32, 0), (np.float16, None)])
def test_litert_counts_tokens_and_does_not_tell_half_precision(
    weights: type, half: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compress.deployment import litert

    monkeypatch.setattr(litert, "_interpreter", lambda path, threads: Interpreter(weights))
    found = find_runtime("litert").coverage(Path("model.tflite"))
    assert found == Coverage(0, 0, 0, 7 * 12 * 4, half)
    assert found.precisions == (None if half is None else {"fp32": 1.0})


def onnx_file(path: Path, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], side: int = 8) -> Path:
    """Write a network `[batch, 3, side, side]` to `[batch, 4]`."""
    shape = ["batch", 3, side, side]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def test_shapes_behind_operators_that_are_not_onnxs_own_are_those_of_a_run(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("MatMul", ["flat", "first"], ["hidden"]),
        helper.make_node("Gelu", ["hidden"], ["active"], domain="com.microsoft"),
        helper.make_node("MatMul", ["active", "second"], ["logits"]),
    ]
    weights = {"first": np.ones((192, 5), np.float32), "second": np.ones((5, 4), np.float32)}
    path = onnx_file(tmp_path / "model.onnx", nodes, weights)
    assert macs_by_weight(path)[0] == {"first": 192 * 5, "second": 5 * 4}
    assert find_runtime("onnxruntime").coverage(path).macs == 192 * 5 + 5 * 4


def test_layers_that_share_a_weight_count_once_each(tmp_path: Path) -> None:
    """The graph that ONNX Runtime optimises has two nodes with this one weight."""
    scale = np.float32(0.1)
    nodes = [helper.make_node("DequantizeLinear", ["kernel", "scale", "zero"], ["weight"])]
    data = "images"
    for number in range(2):
        nodes += [
            helper.make_node("QuantizeLinear", [data, "scale", "point"], [f"rounded{number}"]),
            helper.make_node("DequantizeLinear", [f"rounded{number}", "scale", "point"], [f"data{number}"]),
            helper.make_node("Conv", [f"data{number}", "weight"], [f"sum{number}"], pads=[1, 1, 1, 1]),
        ]
        data = f"sum{number}"
    nodes += [
        helper.make_node("QuantizeLinear", [data, "scale", "point"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["rounded", "scale", "point"], ["last"]),
        helper.make_node("GlobalAveragePool", ["last"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "head"], ["logits"]),
    ]
    weights = {
        "kernel": np.ones((3, 3, 3, 3), np.int8),
        "scale": scale,
        "zero": np.int8(0),
        "point": np.uint8(128),
        "head": np.ones((3, 4), np.float32),
    }
    found = find_runtime("onnxruntime").coverage(onnx_file(tmp_path / "model.onnx", nodes, weights))
    convolutions = 2 * 64 * 3 * 27
    assert found.integer_convs == 2 and (found.integer_macs, found.macs) == (convolutions, convolutions + 12)
