from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from compress.data.preprocess import Preprocess
from compress.models.architecture import Architecture


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


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
