from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from deployment.tiny_classifier import CONVOLUTIONS, LINEAR, PREPROCESS, images, network
from torch import nn

from compress.deployment import executorch
from compress.deployment.coverage import Coverage
from compress.deployment.export import artifact_bytes, export
from compress.utils.errors import CompressError, UsageError

pytest.importorskip("executorch")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(network(), tmp_path_factory.mktemp("executorch"), ["executorch"], PREPROCESS)["executorch"]


def test_executorch_answers_as_pytorch_does(artifact: Path) -> None:
    run = executorch.load(artifact, 1)
    for count in (1, 3, 16, 1):
        with torch.no_grad():
            expected = network()(images(count)).numpy()
        logits = run(images(count).numpy())
        assert logits.shape == (count, 5) and logits.dtype == np.float32
        assert np.abs(logits - expected).max() < 1e-5


def test_answers_are_not_overwritten_by_the_next_run(artifact: Path) -> None:
    run = executorch.load(artifact)
    first = run(images(1).numpy())
    kept = first.copy()
    run(images(1, seed=5).numpy())
    assert np.array_equal(first, kept)


def test_an_artifact_is_one_file_the_same_each_time(artifact: Path, tmp_path: Path) -> None:
    assert sorted(file.name for file in artifact.parent.iterdir()) == ["model.pte", "preprocess.json"]
    assert artifact_bytes(artifact) == artifact.stat().st_size
    again = export(network(), tmp_path, ["executorch"], PREPROCESS)["executorch"]
    assert again.read_bytes() == artifact.read_bytes()
    assert [word for word in (b"/tmp", b".py", str(Path.home()).encode()) if word in artifact.read_bytes()] == []


def test_the_program_tells_its_convolutions(artifact: Path) -> None:
    assert executorch.coverage(artifact) == Coverage(0, 2, 0, CONVOLUTIONS + LINEAR)


@pytest.mark.parametrize("cut", [1, 200, 10**6])
def test_a_truncated_file_is_one_clear_line(
    artifact: Path, cut: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.pte"
    path.write_bytes(artifact.read_bytes()[:-cut])
    for read in (executorch.load, executorch.coverage):
        with pytest.raises(CompressError, match="ExecuTorch cannot read") as caught:
            read(path)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_an_absent_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="ExecuTorch cannot read"):
        executorch.load(tmp_path / "model.pte")


def test_a_quantized_network_is_refused_and_nothing_is_written(variants: dict[str, nn.Module], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the runtime executorch takes no quantized networks"):
        export(variants["int8"], tmp_path, ["executorch"], PREPROCESS)
    assert list(tmp_path.iterdir()) == []


def test_an_operator_that_executorch_lacks_is_one_clear_line(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(images).mean((2, 3))

    with pytest.raises(CompressError, match="Odd cannot be exported to ExecuTorch") as caught:
        export(Odd(), tmp_path, ["executorch"], PREPROCESS)
    assert "\n" not in str(caught.value)


def test_export_is_quiet_and_leaves_the_mode_of_the_network(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = network().train()
    path = export(model, tmp_path, ["executorch"], PREPROCESS)["executorch"]
    executorch.load(path)(images(2).numpy())
    assert model.training and capfd.readouterr() == ("", "")
