"""ResNets for images of 32 pixels: sizes as published, and options from a recipe."""

from __future__ import annotations

import pytest
import torch

from compress.measurement.compute import macs, parameters
from compress.models.catalog import catalog
from compress.models.factory import create_model


@pytest.mark.parametrize(
    ("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)]
)  # He et al. 2015, table 6
def test_parameters_are_those_of_the_paper(depth: int, millions: float) -> None:
    model = create_model("timm", f"cifar_resnet{depth}", 10, 32, options={"option": "A"})
    assert parameters(model) / 1e6 == pytest.approx(millions, abs=0.03 if depth == 110 else 0.006)


def test_macs_of_resnet20_and_of_resnet18_behind_a_small_stem() -> None:
    model = create_model("timm", "cifar_resnet20", 10, 32, options={"option": "A"})
    assert macs(model, 32) / 1e6 == pytest.approx(40.8, abs=0.3)  # commonly stated as 40.8 M
    model = create_model("timm", "cifar_resnet18", 10, 32)
    assert macs(model, 32) / 1e6 == pytest.approx(556, abs=2)


@pytest.mark.parametrize("option", ["A", "B"])
def test_any_width_and_both_shortcuts_give_logits(option: str) -> None:
    model = create_model("timm", "cifar_resnet8", 7, 32, options={"width": 0.7, "option": option})
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    known = catalog("timm")
    assert known and "cifar_resnet8" in known.tags
