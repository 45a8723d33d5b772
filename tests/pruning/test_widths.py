"""Costs computed from widths are those that are counted in the network."""

from __future__ import annotations

import pytest
import torch

from compress.measurement.compute import macs, parameters
from compress.models.factory import create_model
from compress.pruning import search
from compress.pruning.channels import remove_channels
from compress.pruning.groups import kept_layers, output_shape, width
from compress.pruning.prunable import find_prunable
from compress.pruning.search import prune_channels
from compress.pruning.widths import WidthCosts, widths_of
from compress.recipe.channels import Channels

SETTINGS = Channels(target_macs=0.5, round_to=4)


@pytest.mark.parametrize(
    ("library", "name", "side"),
    [
        ("timm", "test_resnet", 32),  # shortcuts
        ("timm", "test_efficientnet", 32),  # depthwise, squeeze and excitation
        ("torchvision", "mobilenet_v2", 32),
        ("torchvision", "squeezenet1_1", 32),  # concatenation
        ("timm", "test_convnext", 32),  # layer norms, and parameters of their own: layer scales
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


@pytest.mark.parametrize("keep", [[], ["*.qkv"]], ids=["narrower heads", "the same heads"])
def test_products_of_activations_cost_as_much_as_their_channels(keep: list[str]) -> None:
    model = create_model("timm", "test_vit", 10, 32)
    settings = SETTINGS.model_copy(update={"keep": keep})
    prunable = find_prunable(model, 32, settings)
    costs = WidthCosts.of(model, 32, prunable.groups)
    assert costs is not None
    shares = {group.layers[0]: 0.5 for group in prunable.groups}
    pruned = remove_channels(model, 32, shares, settings, prunable.kept, output_shape(model, 32))
    widths = widths_of(pruned, prunable.groups)
    assert any("qkv" in layer for layer in widths) == (not keep)
    assert costs.macs_of(widths) == macs(pruned, 32) < macs(model, 32)
    assert costs.parameters_of(widths) == parameters(pruned) < parameters(model)  # position embeddings too


def test_a_network_with_groups_of_channels_has_no_costs_of_widths() -> None:
    model = create_model("timm", "resnext26ts", 10, 32)
    assert WidthCosts.of(model, 32, find_prunable(model, 32, SETTINGS).groups) is None


def test_widths_that_a_network_does_not_get_are_not_taken_for_its_own() -> None:
    model, settings = create_model("timm", "test_convnext", 10, 32), Channels(target_macs=0.999)
    groups = find_prunable(model, 32, settings).groups
    costs, target = WidthCosts.of(model, 32, groups), search._target(settings, 32, model, None)
    assert costs is not None
    pruned = prune_channels(model, 32, settings)
    widths = widths_of(pruned, groups)
    assert search._Candidate(widths, lambda: pruned).is_as_computed(target, costs, groups)
    asked = widths | {groups[0].layers[0]: 4}
    assert not search._Candidate(asked, lambda: pruned).is_as_computed(target, costs, groups)


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


def test_what_only_the_arithmetic_reaches_is_kept() -> None:
    model = create_model("timm", "ghostnet_050", 3, 64)
    assert macs(prune_channels(model, 64, Channels(target_macs=0.6)), 64) <= 0.6 * macs(model, 64)
