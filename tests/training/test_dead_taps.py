"""Leaving out dead taps changes neither the logits of a network nor its gradients."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from compress.training.dead_taps import without_dead_taps


def images(resolution: int) -> torch.Tensor:
    return torch.randn(4, 3, resolution, resolution, generator=torch.Generator().manual_seed(0))


def resnet18() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("resnet18", num_classes=10, zero_init_last=False)


def gradients(network: nn.Module, given: torch.Tensor) -> dict[str, torch.Tensor]:
    network.train().zero_grad()
    network(given).square().sum().backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def test_resnet18_at_32_pixels_has_62_percent_dead_weights() -> None:
    network = resnet18()
    total = sum(p.numel() for p in network.parameters())
    with without_dead_taps(network, 32) as left_out:
        assert total - left_out == sum(p.numel() for p in network.parameters())
    assert left_out / total == pytest.approx(0.62, abs=0.005)


def test_logits_and_gradients_are_the_same() -> None:
    network, given = resnet18().double(), images(32).double()
    whole = gradients(network, given)
    answer = network(given)
    with without_dead_taps(network, 32) as left_out:
        small = gradients(network, given)
        torch.testing.assert_close(network(given), answer)
    assert sum(g.numel() for g in small.values()) + left_out == sum(g.numel() for g in whole.values())
    for name, gradient in small.items():
        # On 1 pixel the middle of 3 taps sees it, on 2 pixels the last two see them.
        live = whole[name] if gradient.shape == whole[name].shape else whole[name][:, :, 1:, 1:]
        live = live[:, :, : gradient.shape[2], : gradient.shape[3]] if gradient.ndim == 4 else live
        torch.testing.assert_close(gradient, live)
        assert gradient.norm() == pytest.approx(whole[name].norm())
    torch.testing.assert_close(network(given), answer)


def test_dead_taps_are_zero_afterwards_and_live_ones_keep_their_weights() -> None:
    network = resnet18()
    conv = network.get_submodule("layer4.1.conv1")
    with without_dead_taps(network, 32), torch.no_grad():
        network.get_submodule("layer4.1.conv1").weight.fill_(7.0)
    assert network.get_submodule("layer4.1.conv1") is conv
    assert isinstance(conv, nn.Conv2d)
    assert bool((conv.weight[:, :, 1, 1] == 7.0).all())
    conv.weight.data[:, :, 1, 1] = 0
    assert not conv.weight.any()


@pytest.mark.parametrize("resolution", [96, 224])
def test_networks_without_dead_taps_are_left_alone(resolution: int) -> None:
    network = resnet18()
    before = dict(network.named_modules())
    with without_dead_taps(network, resolution) as left_out:
        assert left_out == 0 and dict(network.named_modules()) == before


def test_grouped_dilated_reflecting_and_shared_convolutions_are_left_alone() -> None:
    shared = nn.Conv2d(8, 8, 3, padding=1)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2),
        nn.Conv2d(8, 8, 3, padding="same"),
        nn.Sequential(shared, shared),
    )
    with without_dead_taps(network, 8) as left_out:
        assert left_out == 0


def test_convolutions_that_share_a_weight_keep_sharing_it() -> None:
    one, other = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
    other.weight = one.weight
    network = nn.Sequential(nn.Conv2d(3, 8, 3, 2, padding=1), nn.AdaptiveAvgPool2d(1), one, other)
    with without_dead_taps(network, 8) as left_out:
        assert left_out == 0
    assert one.weight is other.weight


def test_networks_are_restored_when_the_fit_fails() -> None:
    network = resnet18()
    shapes = {name: p.shape for name, p in network.named_parameters()}
    with pytest.raises(ZeroDivisionError), without_dead_taps(network, 32):
        raise ZeroDivisionError
    assert {name: p.shape for name, p in network.named_parameters()} == shapes
