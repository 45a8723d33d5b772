from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from deployment.tiny_classifier import CONVOLUTIONS, LINEAR, ONNX_RUNTIMES, PREPROCESS, images, network
from torch import nn

from compress.deployment.coverage import Coverage
from compress.deployment.export import artifact_bytes, export
from compress.deployment.onnx_file import quantized_convolutions
from compress.deployment.runtimes import find_runtime, missing
from compress.measurement.memory import peak_memory
from compress.utils.errors import CompressError, UsageError

Artifacts = dict[str, dict[str, Path]]


@pytest.mark.parametrize("runtime", ONNX_RUNTIMES)
@pytest.mark.parametrize("variant", ["float", "int8"])
def test_artifacts_answer_as_pytorch_does(
    variants: dict[str, nn.Module], artifacts: Artifacts, variant: str, runtime: str
) -> None:
    run = find_runtime(runtime).load(artifacts[variant][runtime], threads=1)
    for count in (1, 7, 16, 1):
        with torch.no_grad():
            expected = variants[variant](images(count)).numpy()
        logits = run(images(count).numpy())
        assert logits.shape == (count, 5) and logits.dtype == np.float32
        assert np.abs(logits - expected).max() < (1e-5 if variant == "float" else 0.02)


@pytest.mark.parametrize("runtime", ONNX_RUNTIMES)
def test_answers_are_not_overwritten_by_the_next_run(artifacts: Artifacts, runtime: str) -> None:
    run = find_runtime(runtime).load(artifacts["float"][runtime])
    first = run(images(2).numpy())
    kept = first.copy()
    run(images(2, seed=5).numpy())
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("runtime", ONNX_RUNTIMES)
def test_coverage_is_what_the_runtime_executes(artifacts: Artifacts, runtime: str) -> None:
    module = find_runtime(runtime)
    assert module.coverage(artifacts["float"][runtime]) == Coverage(0, 2, 0, CONVOLUTIONS + LINEAR)
    # ONNX Runtime has integer kernels for linears whose output is quantized, which that of a classifier is not.
    integer = CONVOLUTIONS + (LINEAR if runtime == "openvino" else 0)
    assert module.coverage(artifacts["int8"][runtime]) == Coverage(2, 2, integer, CONVOLUTIONS + LINEAR)


def test_quantized_convolutions_of_the_file(artifacts: Artifacts) -> None:
    assert quantized_convolutions(artifacts["float"]["onnxruntime"]) == (0, 2)
    assert quantized_convolutions(artifacts["int8"]["onnxruntime"]) == (2, 2)


def test_the_onnx_file_is_one_valid_file_with_named_ends(artifacts: Artifacts) -> None:
    for paths in artifacts.values():
        path = paths["onnxruntime"]
        assert sorted(file.name for file in path.parent.iterdir()) == ["model.onnx", "preprocess.json"]
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        assert [value.name for value in model.graph.input] == ["images"]
        assert [value.name for value in model.graph.output] == ["logits"]
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]
        sides = model.graph.input[0].type.tensor_type.shape.dim
        assert sides[0].dim_param and [side.dim_value for side in sides[1:]] == [3, 16, 16]


def test_nothing_of_this_machine_is_in_a_file(artifacts: Artifacts) -> None:
    machine = [sysconfig.get_paths()["purelib"], str(Path(__file__).parents[2]), str(Path.home()), ".py", "/tmp"]
    for paths in artifacts.values():
        for path in paths.values():
            for file in path.parent.iterdir():
                data = file.read_bytes()
                assert [word for word in machine if word != "/" and word.encode() in data] == [], file


def test_the_same_network_gives_the_same_bytes(artifacts: Artifacts, tmp_path: Path) -> None:
    again = export(network(), tmp_path, ONNX_RUNTIMES, PREPROCESS)
    for runtime, path in again.items():
        for file in path.parent.iterdir():
            assert file.read_bytes() == (artifacts["float"][runtime].parent / file.name).read_bytes(), file.name


def test_every_artifact_says_how_images_are_prepared(artifacts: Artifacts) -> None:
    for paths in artifacts.values():
        for path in paths.values():
            assert json.loads((path.parent / "preprocess.json").read_text(encoding="utf-8")) == PREPROCESS


def test_int8_files_are_smaller(artifacts: Artifacts) -> None:
    openvino = artifacts["float"]["openvino"]
    weights, graph = openvino.with_suffix(".bin").stat().st_size, openvino.stat().st_size
    assert artifact_bytes(openvino) == weights + graph
    assert artifacts["int8"]["openvino"].with_suffix(".bin").stat().st_size < weights / 2


def test_one_runtime_alone_can_be_asked_for(tmp_path: Path) -> None:
    export(network(), tmp_path, ["openvino"], PREPROCESS)
    assert [folder.name for folder in tmp_path.iterdir()] == ["openvino"]


def test_export_is_quiet_and_leaves_the_mode_of_the_network(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = network().train()
    export(model, tmp_path, ["onnxruntime"], PREPROCESS)
    assert model.training
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("runtime", ONNX_RUNTIMES)
def test_a_truncated_file_is_one_clear_line(artifacts: Artifacts, runtime: str, tmp_path: Path) -> None:
    shutil.copytree(artifacts["float"][runtime].parent, tmp_path / "copy")
    path = tmp_path / "copy" / artifacts["float"][runtime].name
    path.write_bytes(path.read_bytes()[:-200])
    module = find_runtime(runtime)
    reads = {
        "load": "cannot read",
        "coverage": "no ONNX file that can be read" if runtime == "onnxruntime" else "cannot",
    }
    for read, words in reads.items():
        with pytest.raises(CompressError, match=words) as caught:
            getattr(module, read)(path)
        assert "\n" not in str(caught.value) and "Exception from" not in str(caught.value)


def test_an_operator_that_onnx_lacks_is_one_clear_line(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(images).mean((2, 3))

    with pytest.raises(CompressError, match="Odd cannot be exported to ONNX") as caught:
        export(Odd(), tmp_path, ["onnxruntime"], PREPROCESS)
    assert "\n" not in str(caught.value)


def test_an_operator_that_onnx_does_not_know_is_one_clear_line(tmp_path: Path) -> None:
    class Invented(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            shape = [images.shape[0], 5]
            return torch.onnx.ops.symbolic("Invention", [images], dtype=images.dtype, shape=shape, version=1)

    with pytest.raises(CompressError, match=r"the ONNX file of Invented is not valid: .*Invention") as caught:
        export(Invented(), tmp_path, ["onnxruntime"], PREPROCESS)
    assert "\n" not in str(caught.value)


def test_unknown_runtime() -> None:
    with pytest.raises(UsageError, match="no runtime 'tensorflow'; there are onnxruntime, openvino"):
        find_runtime("tensorflow")


def test_a_missing_package_is_named_with_the_command_that_adds_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert missing("openvino") == []
    monkeypatch.setattr(find_runtime("openvino"), "PACKAGES", ("onnx", "no_such_package"))
    assert missing("openvino") == ["no_such_package"]
    with pytest.raises(CompressError, match=r"needs no_such_package: pip install 'compress-model\[deploy\]'"):
        export(network(), tmp_path, ["openvino"], PREPROCESS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("runtime", ONNX_RUNTIMES)
def test_peak_memory_is_that_of_a_process_without_torch(artifacts: Artifacts, runtime: str) -> None:
    small = peak_memory(artifacts["float"][runtime], runtime, 1)
    large = peak_memory(artifacts["float"][runtime], runtime, 1024)
    assert small is not None and large is not None
    assert 20e6 < small < 200e6  # torch alone takes more
    assert large > small + 1024 * 3 * 16 * 16 * 4


def test_peak_memory_is_unknown_where_the_artifact_does_not_run(tmp_path: Path) -> None:
    assert peak_memory(tmp_path / "absent.onnx", "onnxruntime", 1) is None


def test_running_an_artifact_imports_no_torch(artifacts: Artifacts) -> None:
    code = (
        "import sys, pathlib, numpy, compress.deployment.runtimes as d\n"
        "for name, path in zip(sys.argv[1::2], sys.argv[2::2]):\n"
        "    d.missing(name)\n"
        "    assert 'onnxruntime' not in sys.modules or name == 'openvino'\n"
        "    d.find_runtime(name).load(pathlib.Path(path))(numpy.zeros((1, 3, 16, 16), 'float32'))\n"
        "assert 'torch' not in sys.modules, 'torch'\n"
    )
    pairs = [text for name, path in artifacts["int8"].items() for text in (name, str(path))]
    subprocess.run([sys.executable, "-c", code, *pairs], check=True, cwd=Path(__file__).parents[2])
