from __future__ import annotations

from pathlib import Path

import pytest
from deployment.tiny_classifier import ONNX_RUNTIMES, PREPROCESS, images, network
from torch import nn

from compress.deployment.export import export


@pytest.fixture(scope="session")
def variants() -> dict[str, nn.Module]:
    """A float network and its quantized graph."""
    from compress.quantization.ptq import quantize

    model = network()
    return {"float": model, "int8": quantize(model, [images(32)], images(2)).network}


@pytest.fixture(scope="session")
def artifacts(variants: dict[str, nn.Module], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    """Artifacts by variant and runtime."""
    root = tmp_path_factory.mktemp("artifacts")
    return {name: export(model, root / name, ONNX_RUNTIMES, PREPROCESS) for name, model in variants.items()}
