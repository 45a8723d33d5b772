"""Frozen parts of a network stay as they are, cost no gradient, and are named wrongly with a hint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from training.test_fit import CPU, PREPROCESS, colours, die_at, plain, same

from compress.measurement.compute import macs, training_macs
from compress.pruning.sparsity import add_masks
from compress.recipe.data import Views
from compress.training.fit import FitResult, fit
from compress.training.freeze import freezing
from compress.training.module import FitModule
from compress.utils.errors import UsageError

BODY = ["conv1*", "bn1", "layer[1-4].*"]


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=2).eval()


def fitted(model: torch.nn.Module, folder: Path, **settings: Any) -> FitResult:
    chosen = plain(2, weight_decay=0.5, **settings)
    with freezing(model, chosen.freeze):
        image_macs = training_macs(model, 32)
        module = FitModule(
            model, PREPROCESS, [colours(64, 0)], colours(32, 1), Views(), chosen, None, seed=0, image_macs=image_macs
        )
        return fit(module, CPU, folder, "tiny")


def test_frozen_modules_keep_weights_and_statistics(tmp_path: Path) -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fitted(model, tmp_path, freeze=["conv1*", "bn1.*", "layer1", "layer2.*.conv1.weight"], ema=0.5)
    after = model.state_dict()
    kept = {name for name in before if torch.equal(before[name], after[name])}
    assert kept == {
        name for name in before if name.startswith(("conv1.", "bn1.", "layer1.")) or name == "layer2.0.conv1.weight"
    }
    assert all(p.requires_grad for p in model.parameters()), "a later fit trains them again"


def test_a_fit_of_the_head_alone_costs_hardly_more_than_forward_passes(tmp_path: Path) -> None:
    model, whole = network(), network()
    frozen, trained = fitted(model, tmp_path / "a", freeze=BODY), fitted(whole, tmp_path / "b")
    head = model.get_submodule("fc").weight.numel()
    assert frozen.curve[-1]["macs"] == frozen.images * (macs(model, 32) + head)
    assert trained.curve[-1]["macs"] > 2.5 * frozen.curve[-1]["macs"]
    assert frozen.curve[-1]["top1"] > 0.6, "the colours are told apart by random features"


def test_a_killed_fit_with_frozen_layers_resumes_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = network(), network()
    fitted(whole, tmp_path / "whole", freeze=["bn1", "layer1.*"])
    with monkeypatch.context() as patch:
        die_at(patch, 6)
        with pytest.raises(KeyError):
            fitted(killed, tmp_path / "killed", freeze=["bn1", "layer1.*"])
    again = network()
    fitted(again, tmp_path / "killed", freeze=["bn1", "layer1.*"])
    assert same(whole.state_dict(), again.state_dict())


def test_masked_layers_are_frozen_by_their_own_names() -> None:
    model = network()
    add_masks(model, [])
    with freezing(model, ["layer1.0.conv1.weight"]):
        assert [name for name, p in model.named_parameters() if not p.requires_grad] == [
            "layer1.0.conv1.parametrizations.weight.original"
        ]


def test_settings_without_frozen_layers_keep_their_store_keys() -> None:
    assert "freeze" not in plain(1).model_dump()
    assert plain(1, freeze=["bn1"]).model_dump()["freeze"] == ["bn1"]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["layr1"], r"freeze: no parameter or module matches 'layr1'; did you mean 'layer1'"),
        (["bn1", "backbone.*"], r"freeze: no parameter or module matches 'backbone.\*'; top modules: conv1, bn1"),
        (["*"], "freeze: all parameters are frozen, so nothing is trained; remove a pattern"),
    ],
)
def test_patterns_that_cannot_be_meant_are_refused(patterns: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message), freezing(network(), patterns):
        pass
