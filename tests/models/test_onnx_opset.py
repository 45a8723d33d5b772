"""Networks at older opsets compute the same, and state the oldest runtimes that read them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
from deployment.tiny_classifier import PREPROCESS, images, network
from onnx import TensorProto, helper
from torch import nn

from compress.deployment.export import export
from compress.deployment.onnx_file import needed_versions
from compress.models.onnx_opset import at_least_ir, at_opset, opset_of, write_at_opset
from compress.quantization.config import QuantizationConfig
from compress.quantization.ptq import quantize
from compress.utils.errors import CompressError

VERSIONS = {
    17: [
        "ONNX opset 17, IR version 8",
        "ONNX Runtime 1.12 or newer, also as Triton's backend",
        "TensorRT 8.5 or newer",
    ],
    18: [
        "ONNX opset 18, IR version 8",
        "ONNX Runtime 1.14 or newer, also as Triton's backend",
        "TensorRT 10.0 or newer",
    ],
    19: [
        "ONNX opset 19, IR version 9",
        "ONNX Runtime 1.15 or newer, also as Triton's backend",
        "TensorRT 10.0 or newer",
    ],
    20: [
        "ONNX opset 20, IR version 9",
        "ONNX Runtime 1.17 or newer, also as Triton's backend",
        "TensorRT 10.0 or newer",
    ],
}


def gated() -> nn.Module:
    """A network with means over height and width, whose axes are an attribute before opset 18."""
    torch.manual_seed(0)
    return timm.create_model("test_efficientnet", num_classes=5).eval()  # type: ignore[no-any-return]


def int8(method: str) -> nn.Module:
    return quantize(network(), [images(32)], images(2), QuantizationConfig(), method).network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "float": network,
    "gated": gated,
    "torchao": lambda: int8("torchao"),
    "onnxruntime": lambda: int8("onnxruntime"),
}


@pytest.mark.parametrize(
    "name", ["float", "onnxruntime", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gated", "torchao"))]
)
@pytest.mark.parametrize("opset", [17, 20])
def test_the_file_has_the_opset_and_computes_the_same(tmp_path: Path, name: str, opset: int) -> None:
    from compress.deployment.runtimes import find_runtime

    model = NETWORKS[name]()
    stated = {**PREPROCESS, "resolution": 32 if name == "gated" else 16}
    found = {}
    for number in (None, opset):
        path = export(model, tmp_path / str(number), ["onnxruntime"], stated, opset=number)["onnxruntime"]
        pixels = torch.randn(3, 3, stated["resolution"], stated["resolution"], generator=torch.manual_seed(1)).numpy()
        found[number] = find_runtime("onnxruntime").load(path, 1)(pixels)
    assert opset_of(onnx.load(path)) == opset
    assert (
        json.loads((path.parent / "preprocess.json").read_text())["needs"] == VERSIONS[opset] == needed_versions(path)
    )
    assert np.abs(found[opset] - found[None]).max() < 1e-5


def one_node(operator: str, opset: int, ir_version: int = 10) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], operator, values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


@pytest.mark.parametrize("opset", VERSIONS)
def test_the_oldest_ir_version_of_an_opset_is_stated(tmp_path: Path, opset: int) -> None:
    onnx.save(at_least_ir(one_node("Relu", opset)), tmp_path / "model.onnx")
    assert needed_versions(tmp_path / "model.onnx") == VERSIONS[opset]


def test_an_older_ir_version_stays_and_a_newer_one_counts(tmp_path: Path) -> None:
    assert at_least_ir(one_node("Relu", 17, ir_version=7)).ir_version == 7
    onnx.save(one_node("Relu", 17, ir_version=10), tmp_path / "model.onnx")
    assert needed_versions(tmp_path / "model.onnx")[1] == "ONNX Runtime 1.18 or newer, also as Triton's backend"


def test_nothing_is_promised_of_unknown_versions(tmp_path: Path) -> None:
    onnx.save(one_node("Relu", 21), tmp_path / "model.onnx")
    assert needed_versions(tmp_path / "model.onnx") == ["ONNX opset 21, IR version 10"]


def test_an_operator_that_an_opset_lacks_is_named() -> None:
    words = "cannot be written at opset 17: .*Mish.*; set a newer `opset`$"
    with pytest.raises(CompressError, match=words):
        at_opset(one_node("Mish", 18), 17)


@pytest.mark.parametrize(("opset", "ir_version", "stated"), [(17, 8, 8), (17, 10, 10), (20, None, 9), (None, None, 9)])
def test_an_ir_version_is_written_as_set(
    tmp_path: Path, opset: int | None, ir_version: int | None, stated: int
) -> None:
    onnx.save(one_node("Relu", 20), tmp_path / "model.onnx")
    write_at_opset(tmp_path / "model.onnx", opset, ir_version)
    assert onnx.load(tmp_path / "model.onnx").ir_version == stated


def test_an_ir_version_before_the_opset_is_refused(tmp_path: Path) -> None:
    onnx.save(one_node("Relu", 20), tmp_path / "model.onnx")
    with pytest.raises(CompressError, match="opset 20 needs IR version 9, not 8; set an older `opset`"):
        write_at_opset(tmp_path / "model.onnx", None, 8)
