"""Core ML's packages, read back by coremltools; nothing here can run them."""

from __future__ import annotations

import collections
import shutil
from pathlib import Path

import pytest
from deployment.tiny_classifier import PREPROCESS, images, network
from torch import nn

from compress.deployment import coreml
from compress.deployment.artifact import find_artifact, load_artifact
from compress.deployment.export import artifact_bytes, export
from compress.quantization.config import QuantizationConfig
from compress.quantization.pt2e import quantize
from compress.utils.errors import CompressError

pytest.importorskip("coremltools", reason="coremltools is not installed: pip install 'compress-model[coreml]'")
CLASSES = tuple(PREPROCESS["classes"])


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(network(), tmp_path_factory.mktemp("coreml"), ["coreml"], PREPROCESS)["coreml"]


def operations(path: Path) -> collections.Counter[str]:
    from coremltools.models.utils import load_spec

    return collections.Counter(each.type for each in coreml._operations(load_spec(str(path))))


def test_a_package_holds_the_input_the_classes_and_the_weights(package: Path) -> None:
    assert package.name == "model.mlpackage" and (package.parent / "preprocess.json").is_file()
    coreml.check(package, 16, CLASSES)
    found = operations(package)
    assert (found["conv"], found["linear"], found["softmax"], found["classify"]) == (2, 1, 1, 1)
    assert artifact_bytes(package) > 2 * 16 * 16 * 9, "half precision"
    assert sorted(file.name for file in package.iterdir()) == ["Data", "Manifest.json"]


@pytest.mark.parametrize(
    "config", [QuantizationConfig(), QuantizationConfig(target="portable", reduce_range=False)], ids=lambda c: c.target
)
def test_integers_go_as_they_are(tmp_path: Path, config: QuantizationConfig) -> None:
    int8 = quantize(network(), [images(32)], images(2), config)
    found = operations(export(int8, tmp_path, ["coreml"], PREPROCESS)["coreml"])
    assert found["constexpr_affine_dequantize"] == 3, "weights of the layers, as integers"
    assert found["quantize"] == found["dequantize"] >= 3


def test_what_is_not_as_asked_for_is_noticed(package: Path, tmp_path: Path) -> None:
    with pytest.raises(CompressError, match=r"takes \{'images': \[1, 3, 16, 16\]\}, not images of shape"):
        coreml.check(package, 32, CLASSES)
    for classes, words in (
        (CLASSES[::-1], "output 0 'cat', not 'truck'"),
        (CLASSES[:-1], "output 4 'truck', not None"),
    ):
        with pytest.raises(CompressError, match=f"model.mlpackage calls {words}"):
            coreml.check(package, 16, classes)
    cut = Path(shutil.copytree(package, tmp_path / package.name))
    (cut / coreml.WEIGHTS).write_bytes(b"")
    with pytest.raises(CompressError, match="weights are cut short"):
        coreml.check(cut, 16, CLASSES)
    (cut / "Manifest.json").write_text("{")
    with pytest.raises(CompressError, match="cannot be read"):
        coreml.check(cut, 16, CLASSES)


def test_an_operator_that_core_ml_lacks_is_named(tmp_path: Path) -> None:
    import torch

    class Strange(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = network()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.body(torch.special.i1(images))  # type: ignore[no-any-return]

    with pytest.raises(CompressError, match=r"Strange cannot be converted to Core ML: .*i1"):
        export(Strange().eval(), tmp_path, ["coreml"], PREPROCESS)


def test_it_is_not_run_here_and_says_where_it_runs(package: Path) -> None:
    for path in (package, package.parent):
        assert find_artifact(path) == (package, "coreml")
        with pytest.raises(CompressError, match=r"for coreml are written and checked here, not run: .*iOS 17"):
            load_artifact(path)
    for read in (coreml.load, coreml.coverage):
        with pytest.raises(CompressError, match="not run"):
            read(package)
