"""Core ML's packages, read back by coremltools; nothing here can run them."""

from __future__ import annotations

import collections
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from deployment.conftest import Built
from deployment.tiny_classifier import PREPROCESS, images, network

from compress.deployment import coreml
from compress.deployment.artifact import load_artifact
from compress.deployment.artifact_files import artifact_bytes
from compress.deployment.export import export
from compress.models.class_list import ClassList
from compress.models.embedding import EmbeddingNetwork
from compress.quantization.config import QuantizationConfig
from compress.quantization.torchao_pt2e import calibrate
from compress.utils.errors import CompressError

pytest.importorskip("coremltools", reason="coremltools is not installed: pip install 'compress-model[coreml]'")
CLASSES = tuple(PREPROCESS["classes"])


@pytest.fixture(scope="module")
def package(built: Built) -> Path:
    return built("coreml")


def operations(path: Path) -> collections.Counter[str]:
    from coremltools.models.utils import load_spec

    return collections.Counter(each.type for each in coreml._operations(load_spec(str(path))))


def test_a_package_holds_the_input_the_classes_and_the_weights(package: Path) -> None:
    coreml.check(package, 16, CLASSES)
    found = operations(package)
    assert (found["conv"], found["linear"], found["softmax"], found["classify"]) == (2, 1, 1, 1)
    assert artifact_bytes(package) > 2 * 16 * 16 * 9, "half precision"
    assert sorted(file.name for file in package.iterdir()) == ["Data", "Manifest.json"]


def test_preprocess_json_states_what_the_package_gives(tmp_path: Path) -> None:
    """Softmax of probabilities would flatten them."""
    steps = ["Decode.", "Arrange as float32 [batch, 3, 16, 16].", "The output is logits."]
    file = export(network(), tmp_path, ["coreml", "onnxruntime"], {**PREPROCESS, "output": "logits", "steps": steps})
    stated, other = (json.loads((path.parent / "preprocess.json").read_text()) for path in file.values())
    assert (stated["output"], other["output"], other["steps"]) == ("probabilities", "logits", steps)
    assert stated["steps"] == [
        "Decode.",
        "Arrange as float32 [1, 3, 16, 16]: channel, row, column.",
        "The outputs are the name of the class and the probabilities of all classes by name.",
    ]
    with pytest.raises(CompressError, match="files for coreml are only written and checked here"):
        load_artifact(file["coreml"])


def test_an_embedding_student_gives_its_embedding(tmp_path: Path) -> None:
    classes = ClassList(CLASSES, np.eye(5, dtype=np.float32), np.zeros(5, np.float32), CLASSES, ("{}",))
    package = export(EmbeddingNetwork(network(), classes), tmp_path, ["coreml"], PREPROCESS)["coreml"]
    found = operations(package)
    assert (found["conv"], found["linear"], found["softmax"], found["classify"]) == (2, 1, 0, 0)
    assert json.loads((package.parent / "preprocess.json").read_text())["output"] == "embedding"
    assert (package.parent / "classes.safetensors").is_file()


@pytest.mark.parametrize(
    "scheme", [QuantizationConfig(), QuantizationConfig(target="portable", reduce_range=False)], ids=lambda s: s.target
)
def test_integers_are_stored_as_they_are(tmp_path: Path, scheme: QuantizationConfig) -> None:
    int8 = calibrate(network(), [images(32)], images(2), scheme).network
    found = operations(export(int8, tmp_path, ["coreml"], PREPROCESS)["coreml"])
    assert found["constexpr_affine_dequantize"] == 3, "weights of the layers, as integers"
    assert found["quantize"] == found["dequantize"] >= 3


def test_a_package_that_is_not_as_requested_is_refused(package: Path, tmp_path: Path) -> None:
    with pytest.raises(CompressError, match=r"takes \{'images': \[1, 3, 16, 16\]\}, not images of shape"):
        coreml.check(package, 32, CLASSES)
    for classes, words in (
        (CLASSES[::-1], "output 0 'cat', not 'truck'"),
        (CLASSES[:-1], "output 4 'truck', not None"),
    ):
        with pytest.raises(CompressError, match=f"model.mlpackage names {words}"):
            coreml.check(package, 16, classes)
    cut = Path(shutil.copytree(package, tmp_path / package.name))
    (cut / coreml.WEIGHTS).write_bytes(b"")
    with pytest.raises(CompressError, match="weights are truncated"):
        coreml.check(cut, 16, CLASSES)
    (cut / "Manifest.json").write_text("{")
    with pytest.raises(CompressError, match=r"the Core ML package .* cannot be read"):
        coreml.check(cut, 16, CLASSES)
