"""Costs computed from widths are those that are counted in the network."""

from __future__ import annotations

import pytest
import torch

from compress.measurement.compute import macs, parameters
from compress.models.factory import create_model
from compress.pruning.channels import remove_channels
from compress.pruning.groups import kept_layers, output_shape, width
from compress.pruning.prunable import find_prunable
from compress.pruning.search import prune_channels
from compress.pruning.widths import WidthCosts
from compress.recipe.channels import Channels

SETTINGS = Channels(target_macs=0.5, round_to=4)


@pytest.mark.parametrize(
    ("library", "name", "side"),
    [
        ("timm", "test_resnet", 32),  # shortcuts
        ("timm", "test_efficientnet", 32),  # depthwise, squeeze and excitation
        ("torchvision", "mobilenet_v2", 32),
        ("torchvision", "squeezenet1_1", 32),  # concatenation
        pytest.param("torchvision", "densenet121", 32, marks=pytest.mark.slow),
        pytest.param("torchvision", "vgg11_bn", 64, marks=pytest.mark.slow),  # flattened maps of 7 x 7
        pytest.param("timm", "repvgg_a0", 32, marks=pytest.mark.slow),
        pytest.param("timm", "mobilenetv3_small_050", 32, marks=pytest.mark.slow),
    ],
)
def test_costs_of_widths_are_those_of_the_network(library: str, name: str, side: int) -> None:
    torch.manual_seed(0)
    model = create_model(library, name, 10, side)
    groups = find_prunable(model, side, SETTINGS).groups
    costs = WidthCosts.of(model, side, groups)
    assert costs is not None
    shares = {group.layers[0]: share for group, share in zip(groups, torch.rand(len(groups)).tolist(), strict=True)}
    pruned = remove_channels(model, side, shares, SETTINGS, kept_layers(model, side, []), output_shape(model, side))
    widths = {layer: width(pruned, layer) for layer in shares}
    assert widths != costs.full
    assert costs.macs_of(widths) == macs(pruned, side) < macs(model, side)
    assert costs.parameters_of(widths) == parameters(pruned) < parameters(model)
    assert costs.macs_of(costs.full) == macs(model, side) and costs.parameters_of(costs.full) == parameters(model)


@pytest.mark.parametrize(
    ("name", "side"), [("test_vit", 32), ("resnext26ts", 32)], ids=["attention", "groups of channels"]
)
def test_networks_whose_costs_do_not_follow_from_widths_have_none(name: str, side: int) -> None:
    model = create_model("timm", name, 10, side)
    assert WidthCosts.of(model, side, find_prunable(model, side, SETTINGS).groups) is None


@pytest.mark.parametrize("target", ["macs", "params"])
def test_a_network_whose_costs_are_computed_wrongly_reaches_its_target(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = create_model("timm", "test_resnet", 10, 32)
    settings = Channels(**{f"target_{target}": 0.5})
    right = prune_channels(model, 32, settings).state_dict()
    monkeypatch.setattr(WidthCosts, "macs_of", lambda *_: 1)
    monkeypatch.setattr(WidthCosts, "parameters_of", lambda *_: 1)
    searched = prune_channels(model, 32, settings).state_dict()
    assert all(torch.equal(right[name], tensor) for name, tensor in searched.items())
