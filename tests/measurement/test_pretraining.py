"""The pre-training compute stated for the shipped OpenCLIP teachers agrees with their towers."""

from __future__ import annotations

import open_clip
import pytest
import torch
import yaml
from torch import Tensor, nn

from compress.measurement.compute import macs
from compress.utils.resources import shipped


class Text(nn.Module):
    """The text tower as a network of images, so that the one counter counts it: what it is given is not looked at."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.encode_text(torch.zeros(len(images), 77, dtype=torch.long))  # type: ignore[operator]


@pytest.mark.parametrize("name", ["openclip-vit-b-32", pytest.param("openclip-vit-l-14", marks=pytest.mark.slow)])
def test_three_forward_passes_of_both_towers(name: str) -> None:
    settings = yaml.safe_load((shipped("configs") / "teachers" / f"{name}.yaml").read_text())
    model = open_clip.create_model(settings["model"]).eval()
    forward = macs(model.visual, 224) + macs(Text(model), 224)
    assert settings["pretraining"]["macs_per_sample"] == pytest.approx(3 * forward, rel=1e-3)
    assert settings["pretraining"]["source"]
