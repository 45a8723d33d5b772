from __future__ import annotations

import pytest
import torch
from torch import nn

from compress.models.build import create_model
from compress.pruning.channels import prune_channels, ratios_at
from compress.pruning.sensitivity import coupled_layers, curves_of, sensitivity
from compress.recipe.schema import Channels


def test_layers_that_are_added_lose_channels_together() -> None:
    model = create_model("timm", "resnet18", 10, 32)
    groups = {layers[0]: set(layers) for layers in coupled_layers(model, 32, Channels(target_macs=0.5))}
    assert groups["conv1"] == {"conv1", "layer1.0.conv2", "layer1.1.conv2"}
    assert groups["layer1.0.conv1"] == {"layer1.0.conv1"}
    assert len(groups) == 4 + 8
    assert not any("fc" in layers for layers in groups.values())


def test_each_layer_is_pruned_alone() -> None:
    model = create_model("timm", "test_resnet", 10, 32)
    settings = Channels(target_macs=0.5, round_to=4)
    seen: list[dict[str, int]] = []

    def top1(network: nn.Module) -> float:
        seen.append({n: m.out_channels for n, m in network.named_modules() if isinstance(m, nn.Conv2d)})
        return 0.9 if len(seen) == 1 else 0.8

    rows = list(sensitivity(model, 32, settings, [0.5, 0.5, 0.49], top1))
    dense, pruned = seen[0], seen[1:]
    assert len(rows) == len(pruned) == len(coupled_layers(model, 32, settings))  # what removes as much is tried once
    for row, widths in zip(rows, pruned, strict=True):
        changed = {name for name, width in widths.items() if width != dense[name]}
        assert changed == set(row["layers"])
        assert row["loss"] == pytest.approx(0.1) and 0.4 <= row["ratio"] <= 0.8


def test_every_layer_gives_what_costs_the_same() -> None:
    curves = {"robust": [(0.5, 0.01), (0.9, 0.02)], "frail": [(0.5, 0.4), (0.9, 0.8)], "odd": [(0.5, -0.1), (0.9, 0.5)]}
    at = ratios_at(curves, 0.5)  # of a loss of 0.8
    assert at["robust"] == 0.9
    assert at["frail"] == pytest.approx(0.5)
    assert at["odd"] == pytest.approx(0.5 + 0.4 * 0.4 / 0.5)
    assert ratios_at(curves, 1) == {"robust": 0.9, "frail": 0.9, "odd": 0.9}
    assert ratios_at(curves, 0)["frail"] == 0


def test_ranking_by_sensitivity_spares_the_frail_layer() -> None:
    torch.manual_seed(0)
    model = create_model("timm", "test_resnet", 10, 32)
    settings = Channels(target_macs=0.7, ranking="sensitivity", round_to=4)
    groups = [layers[0] for layers in coupled_layers(model, 32, settings)]
    curves = curves_of(
        [
            {"layers": [name], "ratio": ratio, "loss": ratio * (1.0 if name == groups[0] else 0.01)}
            for name in groups
            for ratio in (0.25, 0.5, 0.75)
        ]
    )
    pruned = prune_channels(model, 32, settings, curves=curves)
    frail, robust = (model.get_submodule(name).out_channels for name in (groups[0], groups[1]))
    assert pruned.get_submodule(groups[0]).out_channels >= 0.9 * frail
    assert pruned.get_submodule(groups[1]).out_channels <= 0.5 * robust
