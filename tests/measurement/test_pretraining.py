"""The training compute stated for the shipped teachers agrees with their networks."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import timm
import torch
import yaml
from torch import Tensor, nn

import compress
from compress.measurement.compute import macs, training_macs
from compress.utils.resources import shipped

ASSETS = Path(compress.__file__).parent / "assets"


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


def test_training_of_the_embedded_teacher_follows_from_its_card() -> None:
    settings = yaml.safe_load((shipped("configs") / "teachers" / "embedded.yaml").read_text())
    visual = open_clip.create_model(f"local-dir:{ASSETS / 'teacher'}", load_weights=False).visual.eval()
    trunk = visual.trunk
    for frozen in (trunk.conv_stem, trunk.bn1, trunk.blocks[:2]):
        frozen.requires_grad_(False)
    epochs = {64: 3, 96: 4, 112: 2, 128: 1 + 3 + 5 + 2}  # of parts 1, 2, 3 and 5
    tuned = settings["fine_tuning"]
    assert tuned["samples"] == 40_000 * sum(epochs.values())
    per_sample = sum(count * training_macs(visual, side) for side, count in epochs.items()) / sum(epochs.values())
    assert tuned["macs_per_sample"] == pytest.approx(per_sample, rel=1e-3)
    imagenet = timm.create_model("efficientnet_lite0")
    assert settings["pretraining"]["macs_per_sample"] == pytest.approx(3 * macs(imagenet, 224), rel=1e-3)
    assert settings["pretraining"]["samples"] == pytest.approx(218_949 * 2048, rel=1e-3)
