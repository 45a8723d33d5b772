"""Devices other than the CPU: which are here, and that the requested one really computes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import openvino
import pytest
from deployment.tiny_classifier import one_operator
from recipe.recipe_texts import GOOD

from compress.cli.catalog import names
from compress.cli.doctor import examine
from compress.deployment.artifact import load_artifact
from compress.deployment.providers import check_provider
from compress.deployment.runtimes import find_runtime, missing, require, require_engine
from compress.pipeline.preflight import check_requirements
from compress.recipe.load import parse_recipe
from compress.registry import RUNTIMES
from compress.utils.errors import CompressError

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
EXPORT = "from: [distilled, int8]\n"
EXPERIMENTAL = {
    name for name, entry in RUNTIMES.items() if entry.device or name in ("tensorrt", "tensorrt-engine", "coreml")
}


@pytest.fixture
def with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])


def test_an_absent_provider_is_named_with_what_adds_it() -> None:
    assert missing("onnxruntime-cuda") == [CUDA]
    for ask in (require, require_engine):
        with pytest.raises(CompressError, match="onnxruntime-cuda needs CUDAExecutionProvider: pip install onnxr"):
            ask("onnxruntime-cuda")
    rows = {row.name: row for row in examine()}
    assert not rows["runtime onnxruntime-cuda"].present and rows["runtime onnxruntime"].present
    assert names("runtimes")["onnxruntime-cuda"].startswith("not here: no CUDAExecutionProvider")
    assert names("runtimes")["onnxruntime"].startswith("runs here")
    assert {name for name, line in names("runtimes").items() if "experimental" in line} == EXPERIMENTAL


def test_present_providers_and_devices_are_found(with_cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing("onnxruntime-cuda") == [] and missing("onnxruntime-qnn") == ["QNNExecutionProvider"]
    assert missing("openvino-npu") == ["NPU"]
    monkeypatch.setattr(openvino, "Core", lambda: SimpleNamespace(available_devices=["CPU", "GPU.0", "GPU.1"]))
    assert missing("openvino-gpu") == [] and missing("openvino-npu") == ["NPU"]


def test_a_recipe_with_an_absent_provider_is_refused_before_anything_runs() -> None:
    recipe = parse_recipe(GOOD.replace(EXPORT, f"{EXPORT}    runtimes: [onnxruntime-cuda]\n"))
    with pytest.raises(CompressError, match="stage files: the runtime onnxruntime-cuda needs CUDAExecutionProvider"):
        check_requirements(recipe, recipe.stages)


def test_a_silent_fall_back_to_the_processor_is_an_error(
    with_cuda: None, artifacts: dict[str, dict[str, Path]], capfd: pytest.CaptureFixture[str]
) -> None:
    """This build of ONNX Runtime has no CUDA: where it is requested, it warns at most, and computes on the CPU."""
    with pytest.raises(CompressError, match=r"CUDAExecutionProvider runs nothing of .*: CPUExecutionProvider does"):
        require("onnxruntime-cuda").load(artifacts["float"]["onnxruntime"])


def test_a_provider_that_fails_is_named_with_its_reason(
    with_cuda: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = one_operator(tmp_path, "Reshape", {"shape": [-1, 5]})  # which 3 x 16 x 16 numbers do not fill
    with pytest.raises(CompressError, match=rf"CUDAExecutionProvider does not run {path}: .*Reshape"):
        load_artifact(path, "onnxruntime-cuda")


@pytest.mark.skipif(not missing("openvino-gpu"), reason="there is a GPU, which compiles the network")
def test_a_device_that_cannot_compile_is_named(
    artifacts: dict[str, dict[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_runtime("openvino-gpu"), "lacking", list)
    with pytest.raises(CompressError, match=r"OpenVINO cannot compile the network for the GPU: \S"):
        load_artifact(artifacts["float"]["openvino"], "openvino-gpu")


class Session:
    """A session whose profile has which provider ran what."""

    def __init__(self, folder: Path, ran: list[tuple[str, str]]) -> None:
        self.file = folder / "profile.json"
        events = [{"args": {"op_name": operator, "provider": provider}} for operator, provider in ran]
        self.file.write_text(json.dumps([{"name": "session_initialization"}, *events]))

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="images", shape=["batch", 3, 8, 8])]

    def run(self, _: None, given: dict[str, np.ndarray[Any, Any]]) -> None:
        assert given["images"].shape == (1, 3, 8, 8)

    def end_profiling(self) -> str:
        return str(self.file)


def test_convolutions_and_linears_left_to_another_provider_are_an_error(tmp_path: Path) -> None:
    check_provider(Session(tmp_path, [("Conv", CUDA), ("Reshape", CPU)]), tmp_path, CUDA)
    check_provider(Session(tmp_path, [("TRTKernel_graph_1", CUDA)]), tmp_path, CUDA)  # compiled into one of its own
    mixed = Session(tmp_path, [("Conv", CUDA), ("Conv", CPU), ("Gemm", CPU)])
    with pytest.raises(CompressError, match=r"leaves 2 convolutions and linears of .* to CPUExecutionProvider"):
        check_provider(mixed, tmp_path, CUDA)


def test_a_device_shares_the_file_and_the_rest_of_its_runtime(artifacts: dict[str, dict[str, Path]]) -> None:
    base, device = find_runtime("onnxruntime"), find_runtime("onnxruntime-cuda")
    assert (device.format, device.reads, type(device)) == (base.format, base.reads, type(base))
    assert "onnxruntime-gpu" in device.install and "onnxruntime-gpu" not in base.install
    found = device.coverage(artifacts["int8"]["onnxruntime"])
    assert (found.integer_convs, found.convs, found.share) == (None, 2, None)
