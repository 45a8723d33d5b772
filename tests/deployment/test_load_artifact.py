from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from deployment.tiny_classifier import ONNX_RUNTIMES, PREPROCESS, network, one_operator
from PIL import Image
from support import environment

import compress
from compress.data.preprocess import Preprocess
from compress.deployment import open_vino
from compress.deployment.artifact import find_artifact
from compress.deployment.runtimes import find_runtime
from compress.measurement.accuracy import softmax
from compress.utils.errors import CompressError, UsageError

Artifacts = dict[str, dict[str, Path]]


@pytest.fixture
def copy(artifacts: Artifacts, tmp_path: Path) -> Path:
    """An ONNX artifact that the test may damage."""
    return Path(shutil.copytree(artifacts["float"]["onnxruntime"].parent, tmp_path / "copy")) / "model.onnx"


def pictures(count: int, side: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


@pytest.mark.parametrize("runtime", ONNX_RUNTIMES)
def test_probabilities_are_those_of_the_network(artifacts: Artifacts, runtime: str) -> None:
    path = artifacts["float"][runtime]
    artifact = compress.load_artifact(path.parent)
    assert (artifact.path, artifact.runtime) == (path, runtime)
    assert artifact.classes == tuple(PREPROCESS["classes"]) and artifact.preprocess.resolution == 16
    images = pictures(70)
    batch = torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = network()(Preprocess(16, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "bilinear")(batch)).softmax(1).numpy()
    found = artifact(images)
    assert found.dtype == np.float32 and np.abs(found - expected).max() < 1e-5
    assert np.abs(found.sum(1) - 1).max() < 1e-6
    assert np.array_equal(softmax(artifact.logits(images)).astype(np.float32), found)


def test_files_images_and_pixels_of_any_size(artifacts: Artifacts, tmp_path: Path) -> None:
    artifact = compress.load_artifact(artifacts["int8"]["onnxruntime"])
    image = Image.fromarray(pictures(1, 40)[0])
    image.save(tmp_path / "a.png")
    mixed = artifact([tmp_path / "a.png", str(tmp_path / "a.png"), image, np.asarray(image)])
    assert mixed.shape == (4, 5) and np.array_equal(mixed, mixed[:1].repeat(4, 0))
    assert np.array_equal(artifact(tmp_path / "a.png"), mixed[:1])
    assert artifact([]).shape == (0, 5)


def test_files_that_are_not_images_are_refused(artifacts: Artifacts, tmp_path: Path) -> None:
    artifact = compress.load_artifact(artifacts["float"]["onnxruntime"])
    (tmp_path / "a.png").write_bytes(b"nothing")
    Image.fromarray(pictures(1, 40)[0]).save(tmp_path / "b.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:900])
    with pytest.raises(CompressError, match=r"a.png cannot be read as an image \(cannot identify"):
        artifact([tmp_path / "a.png"])
    with pytest.raises(CompressError, match=r"image 1 cannot be read as an image"):
        artifact([pictures(1)[0], Image.open(tmp_path / "b.png")])
    with pytest.raises(CompressError, match=r"absent.png cannot be read: No such file"):
        artifact(tmp_path / "absent.png")
    with pytest.raises(UsageError, match=r"pixels must be uint8 \[n, height, width, 3\]"):
        artifact(pictures(1)[0])


def test_an_onnx_file_in_either_runtime(artifacts: Artifacts) -> None:
    path, images = artifacts["float"]["onnxruntime"], pictures(3)
    found = [compress.load_artifact(path, runtime)(images) for runtime in ONNX_RUNTIMES]
    assert np.abs(found[0] - found[1]).max() < 1e-5


def test_paths_that_are_not_artifacts_are_refused(artifacts: Artifacts, tmp_path: Path) -> None:
    variant = artifacts["float"]["openvino"].parents[1]
    (tmp_path / "a.txt").write_text("")
    for path, runtime, words in (
        (tmp_path / "absent", None, "absent: no such file or folder"),
        (
            tmp_path,
            None,
            r"is not an artifact: it holds no model.onnx or model.xml or model.ncnn.param or model.pt2 or model.pte "
            r"or model.tflite or model.mlpackage or model.engine$",
        ),
        (variant, None, f"; did you mean {variant / 'onnx'}\\?"),
        (tmp_path / "a.txt", None, r"a.txt is not an artifact: runtimes read files that end in .onnx, .xml"),
        (variant / "openvino", "onnxruntime", r"onnxruntime does not read .*model.xml: it reads .onnx"),
        (variant / "onnx", "tensorflow", r"unknown runtime 'tensorflow'; .*choose one of onnxruntime, openvino"),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            compress.load_artifact(path, runtime)
        assert "\n" not in str(caught.value)


def test_of_a_folder_with_two_formats_one_must_be_named(artifacts: Artifacts, tmp_path: Path) -> None:
    for path in artifacts["float"].values():
        shutil.copytree(path.parent, tmp_path, dirs_exist_ok=True)
    with pytest.raises(UsageError, match=r"holds model.onnx, model.xml: name one"):
        compress.load_artifact(tmp_path)
    assert compress.load_artifact(tmp_path, "onnxruntime").path.name == "model.onnx"
    assert compress.load_artifact(tmp_path, "openvino").path.name == "model.xml"


def test_a_folder_that_is_named_like_a_file_is_a_folder(artifacts: Artifacts, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(artifacts["float"]["onnxruntime"].parent, tmp_path / "resnet.onnx"))
    assert compress.load_artifact(folder).path == folder / "model.onnx"
    package = tmp_path / "resnet.mlpackage"
    (package / "Data").mkdir(parents=True)
    assert find_artifact(package) == (package, "coreml"), "the file of some formats is a folder"


@pytest.mark.parametrize("kept", [0, 100, -200])
@pytest.mark.parametrize("runtime", ONNX_RUNTIMES)
def test_a_truncated_file_is_one_line(copy: Path, kept: int, runtime: str) -> None:
    copy.write_bytes(copy.read_bytes()[:kept])
    with pytest.raises(CompressError, match=r"cannot read|does not run") as caught:
        compress.load_artifact(copy, runtime)
    assert "\n" not in str(caught.value)


def test_missing_weights_are_one_line(artifacts: Artifacts, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(artifacts["float"]["openvino"].parent, tmp_path / "copy"))
    (folder / "model.bin").unlink()
    with pytest.raises(CompressError) as caught:
        compress.load_artifact(folder)
    assert "\n" not in str(caught.value)


def test_non_finite_weights_are_refused(copy: Path) -> None:
    model = onnx.load(copy)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.raw_data = b"\xff" * len(tensor.raw_data)
    onnx.save(model, copy)
    with pytest.raises(CompressError, match="gives non-finite logits"):
        compress.load_artifact(copy)


@pytest.mark.parametrize("runtime", ONNX_RUNTIMES)
@pytest.mark.parametrize(
    ("operator", "attributes", "shape"), [("Identity", {}, "1, 3, 16, 16"), ("Flatten", {"axis": 2}, "3, 256")]
)
def test_a_network_that_is_not_a_classifier_is_refused(
    tmp_path: Path, operator: str, attributes: dict[str, int], shape: str, runtime: str
) -> None:
    path = one_operator(tmp_path, operator, **attributes)
    with pytest.raises(CompressError, match=rf"is not a classifier: .* of shape \[{shape}\], not \[1, 5\]"):
        compress.load_artifact(path, runtime)


def test_the_preprocess_json_of_another_network_is_refused(copy: Path) -> None:
    about = copy.parent / "preprocess.json"
    about.write_text(json.dumps({**PREPROCESS, "classes": ["cat", "dog"]}))
    with pytest.raises(CompressError, match=r"has 5 outputs, but preprocess.json lists 2 classes"):
        compress.load_artifact(copy)
    about.write_text(json.dumps({**PREPROCESS, "resolution": 20}))
    with pytest.raises(CompressError, match=r"does not run in onnxruntime") as caught:
        compress.load_artifact(copy)
    assert "\n" not in str(caught.value)
    about.unlink()
    with pytest.raises(CompressError, match=r"has no preprocess.json"):
        compress.load_artifact(copy)


def test_openvino_keeps_the_last_batch_sizes_compiled(artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes memory, and a service may meet many."""
    compiled, compile_model = [], open_vino._compile
    monkeypatch.setattr(
        open_vino,
        "_compile",
        lambda model, *rest: compiled.append(model.input(0).shape[0]) or compile_model(model, *rest),
    )
    monkeypatch.setattr(open_vino, "COMPILED", 2)
    run = find_runtime("openvino").load(artifacts["float"]["openvino"], 1)
    images = np.random.default_rng(0).normal(size=(3, 3, 16, 16)).astype(np.float32)
    expected = run(images)
    for count in (1, 3, 2, 3, 1, 1):
        assert np.abs(run(images[:count]) - expected[:count]).max() < 1e-5
    assert compiled == [3, 1, 2, 1]


def test_a_signal_after_openvino_is_a_signal(artifacts: Artifacts) -> None:
    code = (
        "import signal, sys; from compress import load_artifact\n"
        "first, second = load_artifact(sys.argv[1]), load_artifact(sys.argv[1])\n"
        "del first; del second\n"
        "signal.signal(signal.SIGTERM, lambda number, frame: print('arrived'))\n"
        "signal.raise_signal(signal.SIGTERM)\n"
    )
    path = artifacts["float"]["openvino"]
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stdout) == (0, "arrived\n"), done.stderr
