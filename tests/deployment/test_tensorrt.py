"""What TensorRT takes: checked as a format, since nothing here can run it; ONNX Runtime answers for its arithmetic."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from deployment.tiny_classifier import PREPROCESS, images, network
from onnx import TensorProto, numpy_helper
from torch import nn

from compress.deployment import tensorrt
from compress.deployment.artifact import find_artifact, load_artifact
from compress.deployment.export import Source, export
from compress.deployment.runtimes import find_runtime
from compress.quantization.config import QuantizationConfig
from compress.quantization.pt2e import quantize
from compress.quantization.serialize import rebuild_graph, record_graph
from compress.utils.errors import CompressError

Artifacts = dict[str, dict[str, Path]]
PORTABLE = QuantizationConfig(target="portable", reduce_range=False)


@pytest.fixture(scope="module")
def portable() -> nn.Module:
    return quantize(network(), [images(32)], images(2), PORTABLE)


@pytest.fixture(scope="module")
def integer(portable: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(portable, tmp_path_factory.mktemp("int8"), ["tensorrt"], PREPROCESS)["tensorrt"]


def test_a_float_network_goes_as_it_is(artifacts: Artifacts, tmp_path: Path) -> None:
    class Exported(Source):
        def onnx(self) -> Path:
            return artifacts["float"]["onnxruntime"]

    path = tensorrt.build(Exported(network(), 16, tmp_path), tmp_path)
    assert path.read_bytes() == artifacts["float"]["onnxruntime"].read_bytes() and tensorrt.check(path) == 0
    assert "--stronglyTyped" not in (tmp_path / "trtexec.txt").read_text()


def test_integers_are_signed_symmetric_and_by_channel(integer: Path) -> None:
    assert sorted(file.name for file in integer.parent.iterdir()) == ["model.onnx", "preprocess.json", "trtexec.txt"]
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
    assert comment.startswith("# ")
    words = shlex.split(command)
    assert words[:2] == ["trtexec", "--onnx=model.onnx"] and "--stronglyTyped" in words
    assert "--maxShapes=images:32x3x16x16" in words
    (given,) = onnx.load(integer).graph.input
    assert given.name == "images"


def test_the_same_file_gives_the_same_answers_in_onnx_runtime(portable: nn.Module, integer: Path) -> None:
    with torch.no_grad():
        expected = portable(images(16)).numpy()
    found = find_runtime("onnxruntime").load(integer)(images(16).numpy())
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.9
    assert np.abs(found - expected).max() < 0.05


def test_a_symmetric_network_is_rebuilt_bit_for_bit(portable: torch.fx.GraphModule) -> None:
    state, scales = record_graph(portable)
    assert {zero for _, zero in scales} == {0}
    again = rebuild_graph(network(), images(2), state, scales, PORTABLE)
    with torch.no_grad():
        assert torch.equal(again(images(8)), portable(images(8)))


def test_integers_with_zero_points_are_refused_with_the_way_out(artifacts: Artifacts) -> None:
    with pytest.raises(CompressError, match=r"zero points of 0, and the QuantizeLinear of images.*target: portable"):
        tensorrt.check(artifacts["int8"]["onnxruntime"])


def test_a_file_that_was_changed_is_noticed(integer: Path, tmp_path: Path) -> None:
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
    with pytest.raises(CompressError, match="constant scales above 0, and the QuantizeLinear of images has another"):
        tensorrt.check(tmp_path / "model.onnx")
    (tmp_path / "cut.onnx").write_bytes(integer.read_bytes()[:500])
    with pytest.raises(CompressError, match="is not valid ONNX"):
        tensorrt.check(tmp_path / "cut.onnx")


def test_it_is_not_run_here_and_says_where_it_runs(integer: Path) -> None:
    assert find_artifact(integer.parent)[1] == "onnxruntime", "which reads the same file"
    for attempt in (lambda: load_artifact(integer, "tensorrt"), lambda: find_runtime("tensorrt").load(integer)):
        with pytest.raises(CompressError, match=r"not run: they run on a machine with an NVIDIA GPU.*trtexec\.txt"):
            attempt()
    with pytest.raises(CompressError, match="not run"):
        find_runtime("tensorrt").coverage(integer)
