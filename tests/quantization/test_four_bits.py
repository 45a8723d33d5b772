"""Linear layers with weights of 4 bits beside convolutions of 8, as the files and runtimes really have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import timm
import torch
from onnx.numpy_helper import to_array
from torch import nn

from compress.deployment import open_vino
from compress.deployment.export import export
from compress.deployment.onnx_file import macs_by_weight
from compress.deployment.runtimes import find_runtime
from compress.measurement.compute import count, weight_macs
from compress.measurement.widths import widths
from compress.models.onnx_network import OnnxNetwork
from compress.quantization.config import QuantizationConfig
from compress.quantization.four_bits import OPERATOR, operator_bits, quantize_linears
from compress.quantization.method import Quantized
from compress.quantization.ptq import quantize
from compress.recipe.load import load_recipe
from compress.utils.errors import CompressError, UsageError

IN_A_FILE = ("nncf", "onnxruntime")
EXAMPLE = torch.zeros(2, 3, 32, 32)
PREPROCESS = {"resolution": 32, "mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic", "classes": [*"abcd"]}
FOUR = QuantizationConfig(linear_weight_bits=4, keep=("blocks.0.attn.proj",))


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def transformer() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=96, num_heads=3, num_classes=4
    ).eval()


@pytest.fixture(scope="module")
def made(transformer: nn.Module) -> dict[str, Quantized]:
    return {method: quantize(transformer, [images(8)], EXAMPLE, FOUR, method) for method in IN_A_FILE}


def file(quantized: Quantized) -> onnx.ModelProto:
    assert isinstance(quantized.network, OnnxNetwork)
    return onnx.load_from_string(quantized.network.file)


@pytest.mark.parametrize("method", IN_A_FILE)
def test_linears_have_4_bits_and_the_convolution_8(
    method: str, transformer: nn.Module, made: dict[str, Quantized]
) -> None:
    linears = {name for name, module in transformer.named_modules() if isinstance(module, nn.Linear)}
    expected = dict.fromkeys(linears - {"blocks.0.attn.proj"}, (4, 8))
    assert made[method].layers == {**expected, "patch_embed.proj": (8, 8)}
    stored = {tensor.name: to_array(tensor) for tensor in file(made[method]).graph.initializer}
    nodes = [node for node in file(made[method]).graph.node if node.op_type == OPERATOR]
    assert len(nodes) == len(expected)
    sizes = sorted(stored[node.input[1]].nbytes for node in nodes)
    blocks = {
        name: -(-module.in_features // 32) * 32 for name, module in transformer.named_modules() if name in expected
    }
    halved = sorted(transformer.get_submodule(name).out_features * side // 2 for name, side in blocks.items())
    assert sizes == halved, "two weights a byte, in whole blocks of 32"


@pytest.mark.parametrize("method", IN_A_FILE)
def test_logits_stay_close_to_the_float_network_and_the_file_is_smaller(
    method: str, transformer: nn.Module, made: dict[str, Quantized]
) -> None:
    pixels = images(16, 9)
    expected = transformer(pixels).detach()
    difference = (made[method].network(pixels) - expected).abs().mean() / expected.abs().mean()
    assert 0 < difference < 0.4, "random weights, which are the worst case"
    eight = quantize(transformer, [images(8)], EXAMPLE, QuantizationConfig(keep=FOUR.keep), method)
    four, whole = (len(network.file) for network in (made[method].network, eight.network))
    assert four < 0.8 * whole
    if method == "onnxruntime":
        again = quantize(transformer, [images(8)], EXAMPLE, FOUR, method)
        assert again.network.file == made[method].network.file


@pytest.mark.parametrize("method", IN_A_FILE)
def test_both_runtimes_run_it_and_report_integer_macs(
    method: str, transformer: nn.Module, made: dict[str, Quantized], tmp_path: Path
) -> None:
    network = made[method].network
    built = export(network, tmp_path, ["onnxruntime", "openvino"], PREPROCESS)
    counted = count(transformer, 32).layers
    in_float = counted["blocks.0.attn.proj"]
    pixels = images(4, 5)
    for runtime, path in built.items():
        covered = find_runtime(runtime).coverage(path)
        assert covered.macs == weight_macs(transformer, 32), runtime
        assert covered.integer_macs is not None and covered.convs == 1, runtime
        patches = 0 if covered.integer_convs else counted["patch_embed.proj"]
        everything = covered.macs - in_float - patches
        unpacked = counted["patch_embed.proj"] - patches  # what OpenVINO does on a processor without VNNI
        assert covered.integer_macs in ((everything,) if runtime == "onnxruntime" else (everything, unpacked))
        answers = find_runtime(runtime).load(path, 1)(pixels.numpy())
        np.testing.assert_allclose(answers, network(pixels).numpy(), atol=0.1)


def test_openvino_reports_that_it_unpacks_widths_that_are_not_multiples_of_a_block(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, embed_dim=72, num_heads=3, num_classes=4)
    network = quantize(model.eval(), [images(2)], EXAMPLE, QuantizationConfig(linear_weight_bits=4), "nncf").network
    built = export(network, tmp_path, ["onnxruntime", "openvino"], PREPROCESS)
    shares = {runtime: find_runtime(runtime).coverage(path).share for runtime, path in built.items()}
    assert shares["onnxruntime"] is not None and shares["openvino"] is not None
    assert shares["openvino"] < 0.9 * shares["onnxruntime"]
    for path in built.values():
        assert np.isfinite(
            find_runtime(path.parent.name.replace("onnx", "onnxruntime")).load(path, 1)(images(1).numpy())
        ).all()


def test_openvino_without_dynamic_quantization_reports_float_linears(
    made: dict[str, Quantized], tmp_path: Path, monkeypatch: Any
) -> None:
    openvino = find_runtime("openvino")
    path = export(made["nncf"].network, tmp_path, ["openvino"], PREPROCESS)["openvino"]
    compiled = open_vino._compile
    monkeypatch.setattr(
        open_vino, "_compile", lambda model, threads, device, group=None: compiled(model, threads, device, 0)
    )
    covered = openvino.coverage(path)
    assert covered.integer_macs == 294912, "the convolution alone, where weights are unpacked to float"


def test_the_widths_are_read_from_the_operator(made: dict[str, Quantized]) -> None:
    nodes = [node for node in file(made["onnxruntime"]).graph.node if node.op_type == OPERATOR]
    assert {operator_bits(node) for node in nodes} == {(4, 8)}
    for node in nodes:
        kept = [attribute for attribute in node.attribute if attribute.name != "accuracy_level"]
        del node.attribute[:]
        node.attribute.extend(kept)
    assert {operator_bits(node) for node in nodes} == {(4, 32)}


def test_the_linear_layer_of_a_convolutional_network_has_4_bits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=4).eval()
    quantized = quantize(model, [images(4)], EXAMPLE, QuantizationConfig(linear_weight_bits=4), "onnxruntime")
    assert quantized.layers["fc"] == (4, 8) and set(quantized.layers.values()) == {(4, 8), (8, 8)}
    path = tmp_path / "model.onnx"
    path.write_bytes(file(quantized).SerializeToString())
    assert sum(macs_by_weight(path)[0].values()) == weight_macs(model, 32)
    kept = quantize(model, [images(4)], EXAMPLE, QuantizationConfig(linear_weight_bits=4, keep=("fc",)), "onnxruntime")
    assert set(kept.layers.values()) == {(8, 8)} and "fc" not in kept.layers
    expected = model(images(8, 3)).detach()
    assert (quantized.network(images(8, 3)) - expected).abs().max() < 0.2 * expected.abs().max()


def test_widths_are_grouped_by_kind_and_shares_add_up_to_one(
    transformer: nn.Module, made: dict[str, Quantized]
) -> None:
    rows = widths(transformer, count(transformer, 32).layers, made["nncf"].layers)
    found = {(row["kind"], row["weight_bits"], row["activation_bits"]): row["layers"] for row in rows}
    assert found == {
        ("linear", 4, 8): 8,
        ("linear", 32, 32): 1,
        ("convolution", 8, 8): 1,
        ("product of activations", None, 32): 2,
    }
    assert sum(row["macs_share"] for row in rows) == pytest.approx(1)
    assert rows[0]["macs_share"] > 0.5 and rows == sorted(rows, key=lambda row: -row["macs_share"])


def test_networks_and_methods_without_4_bit_weights_are_refused(transformer: nn.Module) -> None:
    with pytest.raises(
        UsageError, match="`method: torchao` does not have `linear_weight_bits: 4`; use nncf or onnxruntime"
    ):
        quantize(transformer, [images(2)], EXAMPLE, FOUR)
    convolution = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with pytest.raises(CompressError, match="Sequential has no linear layer whose weights could have 4 bits"):
        quantize(convolution, [images(2)], EXAMPLE, QuantizationConfig(linear_weight_bits=4), "onnxruntime")
    with pytest.raises(
        UsageError,
        match="`method: torchao` supports 8 only; for 4, set `method: nncf` or `method: onnxruntime`",
    ):
        load_recipe("quickstart", ["stages.int8.method=torchao", "stages.int8.linear_weight_bits=4"])
    with pytest.raises(UsageError, match="must be 8 or 4"):
        load_recipe("quickstart", ["stages.int8.method=nncf", "stages.int8.linear_weight_bits=3"])


def test_linears_that_scale_their_data_stay_and_shared_weights_are_transposed_once() -> None:
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], name="first", transB=1),
        helper.make_node("Gemm", ["a", "w"], ["b"], name="second", transB=1),
        helper.make_node("Gemm", ["b", "w"], ["y"], name="scaled", transB=1, alpha=0.5),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64]) for name in "xy"]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], [weight])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    made = quantize_linears(proto, [node.name for node in nodes])
    kinds = {node.name: node.op_type for node in made.graph.node if node.op_type in (OPERATOR, "Gemm")}
    assert kinds == {"first": OPERATOR, "second": OPERATOR, "scaled": "Gemm"}
    names = [tensor.name for tensor in made.graph.initializer]
    assert len(names) == len(set(names))
