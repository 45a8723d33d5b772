from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from compress.measurement.compute import bit_operations, layer_macs, macs, parameters, training_macs


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.head = nn.Linear(8, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.depthwise(self.first(images)).mean((2, 3)))


FIRST, DEPTHWISE, HEAD = 16 * 16 * 8 * 27, 16 * 16 * 8 * 9, 8 * 5


def test_macs_are_counted_by_layer() -> None:
    assert layer_macs(Small(), 16) == {"first": FIRST, "depthwise": DEPTHWISE, "head": HEAD}


def test_the_first_layer_needs_no_gradient_by_its_input_and_depthwise_costs_three_times() -> None:
    assert training_macs(Small(), 16) == 2 * FIRST + 3 * DEPTHWISE + 3 * HEAD


def test_frozen_layers_need_no_gradient() -> None:
    model = Small()
    model.first.requires_grad_(False)
    model.depthwise.requires_grad_(False)
    assert training_macs(model, 16) == FIRST + DEPTHWISE + 2 * HEAD


def test_resnet18_has_the_published_macs_and_trains_for_294_percent_of_them() -> None:
    model = timm.create_model("resnet18")
    forward = macs(model, 224)
    assert forward == pytest.approx(1.814e9, rel=1e-3)
    assert training_macs(model, 224) / forward == pytest.approx(2.94, abs=0.006)
    assert parameters(model) == 11_689_512


def test_fused_attention_is_counted() -> None:
    """A transformer layer in eval mode is one operator, which would count 0."""
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer
            self.embed = nn.Conv2d(3, 16, 4, stride=4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.layer(self.embed(images).flatten(2).transpose(1, 2))

    tokens = 4
    projections = tokens * (4 * 16 * 16 + 2 * 16 * 32)
    attention = 2 * tokens * tokens * 16
    embedding = tokens * 16 * 48
    assert macs(Patches(), 8) == projections + attention + embedding


def test_counting_leaves_the_network_as_it_was() -> None:
    model = Small().train()
    model.depthwise.eval()
    with torch.inference_mode():
        macs(model, 16)
    assert model.training and not model.depthwise.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_bit_operations() -> None:
    layers = {"a": 10, "b": 3}
    assert bit_operations(layers) == 13 * 1024
    assert bit_operations(layers, {"a": (8, 8)}) == 10 * 64 + 3 * 1024
    with pytest.raises(KeyError, match="no MACs of the layer c"):
        bit_operations(layers, {"c": (8, 8)})
