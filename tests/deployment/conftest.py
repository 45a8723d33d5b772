from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from deployment.bare_python import bare_python
from deployment.fake_machine import Machine
from deployment.tiny_classifier import ONNX_RUNTIMES, PREPROCESS, images, network
from torch import nn

from compress.deployment.export import export
from compress.quantization.config import QuantizationConfig

Networks = Callable[[str], nn.Module]
Built = Callable[..., Path]
QUANTIZED = {
    "int8": (QuantizationConfig(), "torchao"),
    "portable": (QuantizationConfig(target="portable", reduce_range=False), "torchao"),
    "onnx": (QuantizationConfig(), "onnxruntime"),
}
"""Quantized variants of the tiny classifier: two graphs of PyTorch, and an ONNX file."""


@pytest.fixture(scope="session")
def networks() -> Networks:
    """The tiny classifier by variant, each made once."""
    from compress.quantization.ptq import quantize

    @cache
    def make(variant: str) -> nn.Module:
        model = network()
        return model if variant == "float" else quantize(model, [images(32)], images(2), *QUANTIZED[variant]).network

    return make


@pytest.fixture(scope="session")
def built(networks: Networks, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Artifacts by runtime and variant, each built once; those that are always here share the folder of a variant."""

    @cache
    def build(runtimes: tuple[str, ...], variant: str) -> dict[str, Path]:
        return export(networks(variant), tmp_path_factory.mktemp(variant), runtimes, PREPROCESS)

    def one(runtime: str, variant: str = "float") -> Path:
        together = ONNX_RUNTIMES if runtime in ONNX_RUNTIMES else [runtime]
        return build(tuple(together), variant)[runtime]

    return one


@pytest.fixture(scope="session")
def variants(networks: Networks) -> dict[str, nn.Module]:
    """A float network and its quantized graph."""
    return {name: networks(name) for name in ("float", "int8")}


@pytest.fixture(scope="session")
def artifacts(built: Built) -> dict[str, dict[str, Path]]:
    """Artifacts by variant and runtime, of the runtimes that are always here."""
    return {variant: {name: built(name, variant) for name in ONNX_RUNTIMES} for variant in ("float", "int8")}


@pytest.fixture(scope="session")
def their_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of another machine, with ONNX Runtime and numpy only, in a folder with a space."""
    return bare_python(tmp_path_factory.mktemp("their venv"), ["onnxruntime", "numpy"])


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)
