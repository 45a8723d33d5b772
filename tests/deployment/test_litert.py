"""LiteRT: the environment of its converter, and a converter that fails."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from deployment.tiny_classifier import PREPROCESS, network
from torch import nn

from compress.deployment.export import export
from compress.deployment.runtimes import find_runtime
from compress.utils.errors import CompressError


def test_without_its_environment_it_says_how_to_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = find_runtime("litert")
    monkeypatch.setattr(runtime, "programs", (str(tmp_path / "bin" / "python"),))
    with pytest.raises(CompressError, match=r"the runtime litert needs .*bin/python: scripts/make_litert_environment"):
        export(network(), tmp_path, ["litert"], PREPROCESS)
    assert (Path(__file__).parents[2] / runtime.install).stat().st_mode & 0o111


@pytest.fixture
def without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is missing, so that what comes before the converter runs without it."""
    monkeypatch.setattr(find_runtime("litert"), "programs", ())
    monkeypatch.setattr(find_runtime("litert"), "packages", ())


def test_an_environment_that_is_broken_is_one_line(
    without_packages: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_runtime("litert"), "python", sys.executable)  # in whose environment litert-torch cannot be
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
    monkeypatch.setattr(find_runtime("litert"), "python", str(python))
    with pytest.raises(CompressError, match=f"Sequential cannot be converted to LiteRT: {words}"):
        export(network(), tmp_path, ["litert"], PREPROCESS)


def test_a_network_that_cannot_be_exported_is_one_line(without_packages: None, tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise ValueError("not today\nnor tomorrow")

    with pytest.raises(CompressError, match=r"exported to LiteRT: not today; choose another runtime or network$"):
        export(Broken(), tmp_path, ["litert"], PREPROCESS)
