"""The files for TensorRT: checked as a format, since nothing here can run them; ONNX Runtime computes the same."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from deployment.conftest import QUANTIZED, Built, Networks
from deployment.tiny_classifier import images, network
from onnx import TensorProto, numpy_helper
from torch import nn

from compress.deployment import tensorrt
from compress.deployment.runtime import ExportSource
from compress.deployment.runtimes import find_runtime
from compress.quantization.serialize import rebuild_graph, record_graph
from compress.utils.errors import CompressError

Artifacts = dict[str, dict[str, Path]]


@pytest.fixture(scope="module")
def portable(networks: Networks) -> nn.Module:
    return networks("portable")


@pytest.fixture(scope="module")
def integer(built: Built) -> Path:
    return built("tensorrt", "portable")


def test_a_float_network_is_exported_as_it_is(artifacts: Artifacts, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    shutil.copy(artifacts["float"]["onnxruntime"], tmp_path / "work")
    path = find_runtime("tensorrt").build(ExportSource(network(), 16, tmp_path / "work"), tmp_path)
    assert path.read_bytes() == artifacts["float"]["onnxruntime"].read_bytes() and tensorrt.check(path) == 0
    assert "--stronglyTyped" not in (tmp_path / "trtexec.txt").read_text()


def test_half_precision_is_the_file_s_own(artifacts: Artifacts, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    shutil.copy(artifacts["float"]["onnxruntime"], tmp_path / "work")
    source = ExportSource(network(), 16, tmp_path / "work", precision="fp16")
    path = find_runtime("tensorrt").build(source, tmp_path)
    types = {tensor.data_type for tensor in onnx.load(path).graph.initializer}
    assert tensorrt.check(path) == 0 and TensorProto.FLOAT16 in types and TensorProto.FLOAT not in types
    assert "--stronglyTyped" in (tmp_path / "trtexec.txt").read_text().splitlines()[1]


def test_integers_are_signed_symmetric_and_by_channel(integer: Path) -> None:
    assert tensorrt.check(integer) >= 3
    graph = onnx.load(integer).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    zeros = [constants[n.input[2]] for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert {zero.data_type for zero in zeros} == {TensorProto.INT8}
    assert not any(numpy_helper.to_array(zero).any() for zero in zeros)
    weights = [n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in constants]
    assert len(weights) == 3 and all(constants[n.input[0]].data_type == TensorProto.INT8 for n in weights)
    assert sorted(numpy_helper.to_array(constants[n.input[1]]).size for n in weights) == [5, 16, 16]


def test_the_command_names_the_input_and_its_sizes(integer: Path) -> None:
    comment, command = (integer.parent / "trtexec.txt").read_text().split("\n", 1)
    assert comment.startswith("# ") and "(TensorRT before 9.0: --int8 in place of --stronglyTyped)" in comment
    words = shlex.split(command)
    assert words[:2] == ["trtexec", "--onnx=model.onnx"] and "--stronglyTyped" in words
    assert "--maxShapes=images:32x3x16x16" in words
    (given,) = onnx.load(integer).graph.input
    assert given.name == "images"


def test_onnx_runtime_computes_the_same_from_the_file(portable: nn.Module, integer: Path) -> None:
    with torch.no_grad():
        expected = portable(images(16)).numpy()
    found = find_runtime("onnxruntime").load(integer)(images(16).numpy())
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.9
    assert np.abs(found - expected).max() < 0.05


def test_a_symmetric_network_is_rebuilt_bit_for_bit(portable: torch.fx.GraphModule) -> None:
    state, scales = record_graph(portable)
    assert {zero for _, zero in scales} == {0}
    again = rebuild_graph(network(), images(2), state, scales, QUANTIZED["portable"][0])
    with torch.no_grad():
        assert torch.equal(again(images(8)), portable(images(8)))


def test_integers_with_zero_points_are_refused_with_the_way_out(artifacts: Artifacts) -> None:
    with pytest.raises(
        CompressError, match=r"zero points of 0, which the QuantizeLinear of images does not have: .*target: portable"
    ):
        tensorrt.check(artifacts["int8"]["onnxruntime"])


def test_a_changed_file_is_refused(integer: Path, tmp_path: Path) -> None:
    model = onnx.load(integer)
    zero = next(n for n in model.graph.node if n.op_type == "QuantizeLinear").input[2]
    tensor = next(t for t in model.graph.initializer if t.name == zero)
    tensor.CopyFrom(numpy_helper.from_array(np.array(3, np.int8), zero))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(CompressError, match="zero points of 0"):
        tensorrt.check(tmp_path / "model.onnx")
    model = onnx.load(integer)
    scale = next(n for n in model.graph.node if n.op_type == "QuantizeLinear").input[1]
    tensor = next(t for t in model.graph.initializer if t.name == scale)
    tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), scale))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(
        CompressError, match="constant scales above 0, which the QuantizeLinear of images does not have"
    ):
        tensorrt.check(tmp_path / "model.onnx")
    (tmp_path / "cut.onnx").write_bytes(integer.read_bytes()[:500])
    with pytest.raises(CompressError, match="is not valid ONNX"):
        tensorrt.check(tmp_path / "cut.onnx")
