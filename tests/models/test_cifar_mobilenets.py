"""MobileNetV2 and ShuffleNetV2 for images of 32 pixels: sizes as published, and options from a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compress.data.preprocess import Preprocess
from compress.measurement.compute import macs, parameters
from compress.models.architecture import Architecture, Network
from compress.models.catalog import catalog
from compress.models.checkpoints import changed_sizes, load_variant, save_variant
from compress.models.factory import create_model
from compress.pruning.search import prune_channels
from compress.recipe.channels import Channels


@pytest.mark.parametrize(
    ("name", "options", "mega_macs", "million_parameters"),
    [
        ("cifar_mobilenetv2", {"width": 0.5}, 27.97, 0.70),
        ("cifar_mobilenetv2", {}, 87.98, 2.24),
        ("cifar_shufflenetv2", {}, 10.90, 0.35),
        ("cifar_shufflenetv2", {"channels": 116}, 45.00, 1.26),
    ],
)  # published with the CIFAR-10 weights of github.com/chenyaofo/pytorch-cifar-models
def test_macs_and_parameters_are_those_published(
    name: str, options: dict[str, float], mega_macs: float, million_parameters: float
) -> None:
    model = create_model("timm", name, 10, 32, options=options)
    assert macs(model, 32) / 1e6 == pytest.approx(mega_macs, abs=0.01)
    assert parameters(model) / 1e6 == pytest.approx(million_parameters, abs=0.006)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cifar_mobilenetv2", {"width": 0.25, "stride": 2, "last": 320}),
        ("cifar_shufflenetv2", {"channels": 24, "last": 96}),
    ],
)
def test_options_give_narrower_networks(name: str, options: dict[str, float]) -> None:
    model = create_model("timm", name, 7, 32, options=options)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert macs(model, 32) < 3.3e6
    known = catalog("timm")
    assert known and name in known.tags


def test_layers_of_another_size_are_initialised_as_the_others() -> None:
    model = create_model("timm", "cifar_mobilenetv2", 10, 32, options={"last": 640})
    convolution, linear = model.features[-1][0], model.classifier[1]
    assert convolution.weight.std().item() == pytest.approx((2 / 640) ** 0.5, rel=0.03)  # He, by the outputs
    assert linear.weight.std().item() == pytest.approx(0.01, rel=0.05) and not linear.bias.any()
    assert model.last_channel == 640


@pytest.mark.slow
def test_a_pruned_network_with_options_is_stored_and_rebuilt(tmp_path: Path) -> None:
    options = {"width": 0.25, "stride": 2, "last": 64}
    model = create_model("timm", "cifar_mobilenetv2", 3, 32, options=options).eval()
    pruned = prune_channels(model, 32, Channels(target_macs=0.6, round_to=4))
    architecture = Architecture(
        library="timm",
        model="cifar_mobilenetv2",
        options=options,
        classes=("a", "b", "c"),
        resolution=32,
        preprocess=Preprocess(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        sizes=changed_sizes(pruned, model),
    )
    save_variant(tmp_path, Network(pruned, architecture))
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(load_variant(tmp_path).model(images), pruned(images))
