from __future__ import annotations

from collections.abc import Iterator

import pytest
import timm
import torch
from onnx_exports import remembering
from torch import nn

from compress.data.preprocess import Preprocess
from compress.models.architecture import Architecture
from compress.quantization import onnx_ptq


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="package", autouse=True)
def _one_export() -> Iterator[None]:
    """Methods quantize files of the same few networks; see `remembering` for when one is exported again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_ptq, "write_onnx", remembering(onnx_ptq.write_onnx))
        yield


@pytest.fixture(scope="package")
def network() -> nn.Module:
    """A small ResNet whose batch normalisation has seen images."""
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=4).train()
    with torch.no_grad():
        for seed in range(4):
            model(images(16, seed))
    return model.eval()


@pytest.fixture(scope="package")
def architecture() -> Architecture:
    """The `architecture.json` of `network`."""
    return Architecture(
        library="timm",
        model="test_resnet",
        classes=("a", "b", "c", "d"),
        resolution=32,
        preprocess=Preprocess(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
    )
