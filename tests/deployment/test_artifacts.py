"""The files of the runtimes that are always here, and the memory that they take to run."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from deployment.tiny_classifier import ONNX_RUNTIMES, PREPROCESS, network
from torch import nn

from compress.deployment.export import export
from compress.deployment.memory import peak_memory
from compress.quantization.onnx_layers import quantized_convolutions
from compress.utils.errors import CompressError

Artifacts = dict[str, dict[str, Path]]


def test_quantized_convolutions_of_the_file(artifacts: Artifacts) -> None:
    assert quantized_convolutions(onnx.load(artifacts["float"]["onnxruntime"])) == (0, 2)
    assert quantized_convolutions(onnx.load(artifacts["int8"]["onnxruntime"])) == (2, 2)


def test_the_onnx_file_is_one_valid_file_with_named_ends(artifacts: Artifacts) -> None:
    for paths in artifacts.values():
        path = paths["onnxruntime"]
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        assert [value.name for value in model.graph.input] == ["images"]
        assert [value.name for value in model.graph.output] == ["logits"]
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]
        sides = model.graph.input[0].type.tensor_type.shape.dim
        assert sides[0].dim_param and [side.dim_value for side in sides[1:]] == [3, 16, 16]


def test_int8_files_are_smaller(artifacts: Artifacts) -> None:
    openvino = artifacts["float"]["openvino"]
    weights = openvino.with_suffix(".bin").stat().st_size
    assert artifacts["int8"]["openvino"].with_suffix(".bin").stat().st_size < weights / 2


def test_one_runtime_alone_can_be_requested(tmp_path: Path) -> None:
    export(network(), tmp_path, ["openvino"], PREPROCESS)
    assert [folder.name for folder in tmp_path.iterdir()] == ["openvino"]


def test_an_operator_that_onnx_does_not_know_is_one_clear_line(tmp_path: Path) -> None:
    class Invented(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            shape = [images.shape[0], 5]
            return torch.onnx.ops.symbolic("Invention", [images], dtype=images.dtype, shape=shape, version=1)

    with pytest.raises(CompressError, match=r"the ONNX file of Invented is not valid: .*Invention") as caught:
        export(Invented(), tmp_path, ["onnxruntime"], PREPROCESS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("runtime", ONNX_RUNTIMES)
def test_peak_memory_is_that_of_a_process_without_torch(artifacts: Artifacts, runtime: str) -> None:
    small = peak_memory(artifacts["float"][runtime], runtime, 1)
    large = peak_memory(artifacts["float"][runtime], runtime, 1024)
    assert small is not None and large is not None
    assert 20e6 < small < 200e6  # torch alone takes more
    assert large > small + 1024 * 3 * 16 * 16 * 4


def test_peak_memory_is_unknown_where_the_artifact_does_not_run(tmp_path: Path) -> None:
    assert peak_memory(tmp_path / "absent.onnx", "onnxruntime", 1) is None
