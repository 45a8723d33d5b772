from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from compress.measurement.compute import macs
from compress.models.factory import create_model
from compress.pruning.channels import remove_channels
from compress.pruning.curves import ratios_at
from compress.pruning.groups import kept_layers
from compress.pruning.prunable import find_prunable
from compress.pruning.search import prune_channels
from compress.pruning.sensitivity import curves_by_layer, sensitivity
from compress.recipe.channels import Channels


def test_layers_whose_outputs_are_added_are_coupled() -> None:
    model = create_model("timm", "resnet18", 10, 32)
    found = find_prunable(model, 32, Channels(target_macs=0.5)).groups
    groups = {group.layers[0]: set(group.layers) for group in found}
    assert groups["conv1"] == {"conv1", "layer1.0.conv2", "layer1.1.conv2"}
    assert groups["layer1.0.conv1"] == {"layer1.0.conv1"}
    assert len(groups) == 4 + 8
    assert not any("fc" in layers for layers in groups.values())


def test_each_layer_is_pruned_alone_with_those_coupled_to_it() -> None:
    model = create_model("timm", "test_resnet", 10, 32)
    settings = Channels(target_macs=0.5, round_to=4)
    seen: list[dict[str, int]] = []

    def top1(network: nn.Module) -> float:
        seen.append({n: m.out_channels for n, m in network.named_modules() if isinstance(m, nn.Conv2d)})
        return 0.9 if len(seen) == 1 else 0.8

    prunable = find_prunable(model, 32, settings)
    rows = list(sensitivity(model, 32, settings, prunable, [0.5, 0.5, 0.51], top1))
    dense, pruned = seen[0], seen[1:]
    assert len(rows) == len(pruned) == len(prunable.groups)  # what removes as much is tried once
    for row, widths in zip(rows, pruned, strict=True):
        changed = {name for name, width in widths.items() if width != dense[name]}
        assert changed == set(row["layers"])
        assert row["loss"] == pytest.approx(0.1) and 0.4 <= row["ratio"] <= 0.8


def test_every_layer_loses_the_share_of_the_same_loss() -> None:
    curves = {"robust": [(0.5, 0.01), (0.9, 0.02)], "frail": [(0.5, 0.4), (0.9, 0.8)], "odd": [(0.5, 0.3), (0.9, -0.1)]}
    near = partial(pytest.approx, abs=1e-3)
    # Losses in order: 0, 0, 0, 0.01, 0.02, 0.3, 0.3, 0.4, 0.8; half of the way is 0.02.
    at = ratios_at(curves, 0.5)
    assert at["robust"] == near(0.9)
    assert at["frail"] == near(0.5 * 0.02 / 0.4)
    assert at["odd"] == near(0.5 * 0.02 / 0.3)
    assert ratios_at(curves, 1) == {"robust": 0.9, "frail": 0.9, "odd": 0.9}
    assert ratios_at(curves, 0) == {"robust": 0.0, "frail": 0.0, "odd": 0.0}


@pytest.mark.parametrize("loss", [0.0, -0.2])
def test_layers_without_loss_lose_smaller_shares_first(loss: float) -> None:
    curves = {name: [(0.5, loss), (0.9, loss)] for name in ("one", "other")}
    found = [ratios_at(curves, progress)["one"] for progress in (0, 0.25, 0.5, 0.75, 1)]
    assert found == sorted(found) and len(set(found)) > 3 and found[-1] == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("width", "share", "kept"),
    # torch-pruning would keep int(width * (1 - share)), rounded down: 8, 0, 0, 24 and 0 of these.
    [(16, 0.01, 16), (40, 0.8, 8), (24, 1 - 8 / 24, 8), (96, 1 - 32 / 96, 32), (16, 0.99, 8)],
)
def test_at_most_the_share_is_removed_and_never_all(width: int, share: float, kept: int) -> None:
    model = nn.Sequential(nn.Conv2d(3, width, 1), nn.ReLU(), nn.Conv2d(width, 8, 1), nn.Flatten(), nn.Linear(8, 2))
    settings = Channels(target_macs=0.5)
    pruned = remove_channels(model, 1, {"0": share}, settings, kept_layers(model, 1, []), torch.Size((1, 2)))
    assert pruned[0].out_channels == kept


def test_ranking_by_sensitivity_spares_the_sensitive_layer() -> None:
    torch.manual_seed(0)
    model = create_model("timm", "test_resnet", 10, 32)
    settings = Channels(target_macs=0.7, ranking="sensitivity", round_to=4)
    groups = [group.layers[0] for group in find_prunable(model, 32, settings).groups]
    curves = curves_by_layer(
        [
            {"layers": [name], "ratio": ratio, "loss": ratio * (1.0 if name == groups[0] else 0.01)}
            for name in groups
            for ratio in (0.25, 0.5, 0.75)
        ]
    )
    pruned = prune_channels(model, 32, settings, curves=curves)
    share = macs(pruned, 32) / macs(model, 32)
    assert 0.55 <= share <= 0.7
    frail, robust = (model.get_submodule(name).out_channels for name in (groups[0], groups[1]))
    assert pruned.get_submodule(groups[0]).out_channels >= 0.9 * frail
    assert pruned.get_submodule(groups[1]).out_channels < 0.9 * robust
