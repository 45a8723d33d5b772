"""LiteRT answers as PyTorch does; without its environment it says how to make it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from deployment.tiny_classifier import PREPROCESS, images, network
from torch import nn

from compress.deployment import litert
from compress.deployment.artifact import load_artifact
from compress.deployment.coverage import Coverage
from compress.deployment.export import export
from compress.deployment.runtimes import find_runtime, missing
from compress.measurement.memory import peak_memory
from compress.utils.errors import CompressError

here = pytest.mark.skipif(bool(missing("litert")), reason=f"no {', '.join(missing('litert'))}: {litert.ADD}")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(network(), tmp_path_factory.mktemp("litert"), ["litert"], PREPROCESS)["litert"]


@here
@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, None])
def test_litert_answers_as_pytorch_does(artifact: Path, threads: int | None) -> None:
    run = find_runtime("litert").load(artifact, threads)
    first = run(images(1).numpy())
    kept = first.copy()
    for count in (3, 16, 1):
        with torch.no_grad():
            expected = network()(images(count)).numpy()
        logits = run(images(count).numpy())
        assert logits.shape == (count, 5) and logits.dtype == np.float32
        assert np.abs(logits - expected).max() < 1e-5
    assert np.array_equal(first, kept), "answers are not overwritten by the next run"


@here
@pytest.mark.slow
def test_an_artifact_is_one_file_with_its_preprocessing(artifact: Path) -> None:
    assert sorted(file.name for file in artifact.parent.iterdir()) == ["model.tflite", "preprocess.json"]
    assert load_artifact(artifact.parent).classes == tuple(PREPROCESS["classes"])
    assert find_runtime("litert").coverage(artifact) == Coverage(0, 2, 0)
    memory = peak_memory(artifact, "litert", 1)
    assert memory and memory < 300e6, "running it imports no torch"


@here
@pytest.mark.slow
def test_an_operator_that_litert_lacks_is_one_line(tmp_path: Path) -> None:
    class Strange(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.special.i1(images).flatten(1)

    with pytest.raises(CompressError, match=r"Strange cannot be converted to LiteRT: .*special_i1") as caught:
        export(Strange().eval(), tmp_path, ["litert"], PREPROCESS)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif("ai_edge_litert" in missing("litert"), reason="no ai_edge_litert: pip install ai-edge-litert")
@pytest.mark.parametrize("content", [b"", b"no flatbuffer", None])
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.tflite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CompressError, match=r"LiteRT cannot read .*model\.tflite: \S"):
        find_runtime("litert").load(path)


def test_without_its_environment_it_says_how_to_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = str(tmp_path / "bin" / "python")
    monkeypatch.setattr(litert, "PROGRAMS", (absent,))
    with pytest.raises(CompressError, match=r"the runtime litert needs .*bin/python: scripts/make_litert_environment"):
        export(network(), tmp_path, ["litert"], PREPROCESS)
    assert (Path(__file__).parents[2] / litert.ADD).stat().st_mode & 0o111


@pytest.fixture
def without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes before the converter can be tried where it is not."""
    monkeypatch.setattr(litert, "PROGRAMS", ())
    monkeypatch.setattr(litert, "PACKAGES", ())


def test_an_environment_that_is_broken_is_one_line(
    without_packages: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litert, "PYTHON", sys.executable)  # in whose environment litert-torch cannot be
    with pytest.raises(CompressError, match="Sequential cannot be converted to LiteRT: No module named 'litert_torch'"):
        export(network(), tmp_path, ["litert"], PREPROCESS)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'Loading' >&2; echo 'No space left' >&2; exit 1", "No space left$"),
        ("exit 3", "the converter ended with 3"),
        ("echo 'Loading' >&2; kill -9 $$", r"the converter was ended by signal 9 \(Killed\)"),
        ("echo 'Loading' >&2", "the converter wrote no file"),
    ],
)
def test_a_converter_that_fails_is_one_line(
    without_packages: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(litert, "PYTHON", python)
    with pytest.raises(CompressError, match=f"Sequential cannot be converted to LiteRT: {words}"):
        export(network(), tmp_path, ["litert"], PREPROCESS)


def test_what_cannot_be_exported_is_one_line(without_packages: None, tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise ValueError("not today\nnor tomorrow")

    with pytest.raises(CompressError, match=r"Broken cannot be exported to LiteRT: not today$"):
        export(Broken(), tmp_path, ["litert"], PREPROCESS)
