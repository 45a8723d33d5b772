"""TensorRT engines, with a stand-in for its package and its GPU: the contract around them, not the engines' speed."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from deployment import fake_tensorrt
from deployment.conftest import Networks
from deployment.tiny_classifier import CONVOLUTIONS, LINEAR, PREPROCESS, images, network, one_operator

from compress.deployment import gpu, tensorrt_engine
from compress.deployment.artifact import load_artifact
from compress.deployment.artifact_files import artifact_files
from compress.deployment.coverage import Coverage
from compress.deployment.export import export
from compress.deployment.runtime import ExportSource
from compress.deployment.runtimes import find_runtime, require
from compress.utils.errors import CompressError

NAME = "tensorrt-engine"
TOTAL = CONVOLUTIONS + LINEAR


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU whose memory is the computer's, and TensorRT for it."""
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt)
    monkeypatch.setattr(find_runtime(NAME), "packages", ("onnx", "torch"))  # the stand-in is no installed package
    monkeypatch.setattr(gpu, "lacking", list)
    monkeypatch.setattr(gpu, "DEVICE", "cpu")
    monkeypatch.setattr(gpu, "kind", lambda: ["NVIDIA T4", "7.5"])
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: SimpleNamespace(cuda_stream=0))
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())


@pytest.fixture
def path(with_gpu: None, networks: Networks, tmp_path: Path) -> Path:
    return export(networks("float"), tmp_path / "files", [NAME], PREPROCESS)[NAME]


def test_without_a_gpu_it_is_named_with_what_adds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_runtime(NAME), "packages", ())
    monkeypatch.setattr(gpu, "DRIVER", "libno_such_driver.so")
    with pytest.raises(CompressError, match="tensorrt-engine needs NVIDIA GPU: pip install tensorrt, with"):
        require(NAME)


@pytest.mark.parametrize(
    ("variant", "precision", "integer", "half", "error"),
    [("float", None, 0, 0, 1e-5), ("float", "fp16", 0, CONVOLUTIONS, 2e-3), ("portable", None, CONVOLUTIONS, 0, 0.05)],
)
def test_outputs_and_precisions(
    with_gpu: None,
    networks: Networks,
    tmp_path: Path,
    variant: str,
    precision: str | None,
    integer: int,
    half: int,
    error: float,
) -> None:
    model, runtime = networks(variant), find_runtime(NAME)
    path = export(model, tmp_path, [NAME], PREPROCESS, precision)[NAME]
    assert [file.name for file in artifact_files(path)] == ["model.engine", "model.engine.json", "preprocess.json"]
    run = runtime.load(path)
    for count in (1, 3, 70):  # more than the 32 images of its profile
        with torch.no_grad():
            expected = model(images(count, seed=5)).numpy()
        logits = run(images(count, seed=5).numpy())
        assert logits.shape == (count, 5) and logits.dtype == np.float32
        assert np.abs(logits - expected).max() < error
    assert runtime.coverage(path) == Coverage(2 if integer else 0, 2, integer, TOTAL, half)
    assert load_artifact(path)(np.zeros((2, 20, 20, 3), np.uint8)).shape == (2, 5)


def test_layers_that_are_only_named_leave_the_precision_unknown() -> None:
    info = tensorrt_engine.EngineInfo("10.0", ["T4"], 2, 1000)
    described = {
        "ParameterType": "Convolution",
        "Weights": {"Type": "Half", "Count": 9},
        "Outputs": [{"Dimensions": [-1, 4, 10, 11]}],
    }
    names = [{"Name": "reformat"}, {"Name": "{ForeignNode[conv2]}"}]
    unknown = Coverage(None, 2, None, 1000, None)
    assert tensorrt_engine.count_layers(names, info) == unknown == tensorrt_engine.count_layers([], info)
    assert tensorrt_engine.count_layers([*names, described], info) == Coverage(0, 2, 0, 1000, 990)
    described["Outputs"] = [{"Dimensions": [1, 4, 10, 10]}]
    assert tensorrt_engine.count_layers([*names, described], info) == unknown
    del described["Weights"]
    assert tensorrt_engine.count_layers([*names, described], info) == unknown


def test_an_engine_for_another_gpu_or_version_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = find_runtime(NAME)
    monkeypatch.setattr(gpu, "kind", lambda: ["NVIDIA H200", "9.0"])
    words = r"built for NVIDIA T4, 7.5, TensorRT 10.13.3.9, and here is NVIDIA H200, 9.0, TensorRT 10.13.3.9$"
    with pytest.raises(CompressError, match=words):
        runtime.load(path)
    monkeypatch.setattr(fake_tensorrt, "__version__", "8.6.1")
    with pytest.raises(CompressError, match=r"TensorRT 8.6.1 is too old, 10 is needed"):
        runtime.load(path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"tensorrt": "10"}', '{"tensorrt": "10", "gpu": 5, "convs": 1, "macs": 2}']
)
def test_a_damaged_engine_or_statement_is_one_line(path: Path, text: str) -> None:
    runtime = find_runtime(NAME)
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    for read in (runtime.load, runtime.coverage):
        with pytest.raises(CompressError, match=r"TensorRT cannot read .*model.engine: \[runtime.cpp\] Serialization"):
            read(path)
    path.write_bytes(whole)
    path.with_name("model.engine.json").write_text(text)
    with pytest.raises(CompressError, match=r"cannot read .*model.engine: model.engine.json beside it: \S") as caught:
        runtime.load(path)
    assert "\n" not in str(caught.value)
    path.with_name("model.engine.json").unlink()
    with pytest.raises(CompressError, match=r"model.engine.json beside it: .*No such file"):
        runtime.load(path)


def test_what_tensorrt_refuses_is_one_line(with_gpu: None, tmp_path: Path) -> None:
    with pytest.raises(
        CompressError, match=r"TensorRT cannot build an engine: \[optimizer.cpp\] Could not find any im"
    ):
        find_runtime(NAME).build(ExportSource(network(), 1024, tmp_path), tmp_path)
    with pytest.raises(CompressError, match=r"TensorRT cannot parse the network: no importer for Det$"):
        tensorrt_engine.build_engine(one_operator(tmp_path, "Det"), 16)


def test_what_an_engine_was_built_for_is_stated(path: Path) -> None:
    stated = json.loads(path.with_name("model.engine.json").read_text())
    assert stated == {"tensorrt": "10.13.3.9", "gpu": ["NVIDIA T4", "7.5"], "convs": 2, "macs": TOTAL}
    needs = json.loads(path.with_name("preprocess.json").read_text())["needs"]
    assert needs == find_runtime(NAME).needs(path)


@pytest.mark.parametrize(
    "bad", [np.zeros((2, 3, 16, 16)), np.zeros((2, 3, 8, 8), np.float32), np.zeros((0, 3, 16, 16))]
)
def test_other_images_are_refused_and_the_next_ones_are_not_affected(path: Path, bad: np.ndarray[Any, Any]) -> None:
    """An engine reads what is behind the address that it is given."""
    run, good = find_runtime(NAME).load(path), images(3).numpy()
    expected = run(good)
    with pytest.raises(CompressError, match=r"takes images float32 \[batch, 3, 16, 16\]"):
        run(bad)
    assert np.array_equal(run(good), expected)


def test_what_an_engine_says_when_it_fails_is_passed_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = find_runtime(NAME).load(path)

    def fail(context: fake_tensorrt.Context, _: int) -> bool:
        tensorrt_engine._logger().log(fake_tensorrt.ILogger.ERROR, "[executionContext.cpp] CUDA failure 2")
        return False

    monkeypatch.setattr(fake_tensorrt.Context, "execute_async_v3", fail)
    with pytest.raises(
        CompressError, match=r"cannot run .*model.engine on 3 images: \[executionContext.cpp\] CUDA fail"
    ):
        run(images(3).numpy())
    monkeypatch.setattr(fake_tensorrt.Engine, "create_execution_context", lambda _: None)
    with pytest.raises(CompressError, match=r"cannot read .*model.engine: no reason given"):
        find_runtime(NAME).load(path)
