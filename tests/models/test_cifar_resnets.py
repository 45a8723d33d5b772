"""ResNets for images of 32 pixels: sizes as published, and options from a recipe."""

from __future__ import annotations

import pytest
import torch
from torch import nn

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
    halved = create_model("timm", "cifar_resnet18", 10, 32, options={"width": 0.25, "stride": 2})
    assert macs(halved, 32) / 1e6 == pytest.approx(9.2, abs=0.2)  # 35.1 M at a stride of 1


@pytest.mark.parametrize(("width", "mega_macs", "deployed"), [(1, 12.50, 77_706), (2.5, 76.47, 480_330)])
def test_resnet8_is_the_network_of_mlperf_tiny(width: float, mega_macs: float, deployed: int) -> None:
    """Its Keras model (mlcommons/tiny, keras_model.py) has a bias per channel where ours has a batch norm to fold."""
    model = create_model("timm", "cifar_resnet8", 10, 32, options={"width": width})
    assert macs(model, 32) / 1e6 == pytest.approx(mega_macs, abs=0.005)
    norms = sum(module.num_features for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    assert parameters(model) - norms == deployed


@pytest.mark.parametrize("option", ["A", "B"])
def test_any_width_and_both_shortcuts_give_logits(option: str) -> None:
    model = create_model("timm", "cifar_resnet8", 7, 32, options={"width": 0.7, "option": option})
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    known = catalog("timm")
    assert known and "cifar_resnet8" in known.tags
