from __future__ import annotations

import pytest
import torch
from torch import nn

from compress.models.factory import create_model
from compress.models.jit_fuse import fuse_layers


@pytest.mark.parametrize("side", [32, 30])
def test_a_fused_network_gives_the_same_logits(side: int) -> None:
    torch.manual_seed(0)
    network = create_model("timm", "test_resnet", 10, side).eval()
    images = torch.randn(3, 3, side, side)
    with torch.no_grad():
        assert torch.allclose(fuse_layers(network, side)(images), network(images), atol=1e-4)


class Alternating(nn.Module):
    """Computes something else in every second call, which tracing refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Conv2d(3, 2, 1), 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.layer(images) + 1 if self.calls % 2 else self.layer(images * 2)  # type: ignore[no-any-return]


def test_a_network_that_cannot_be_traced_stays_as_it_is() -> None:
    network = Alternating().eval()
    assert fuse_layers(network, 8) is network


def test_a_network_beyond_the_limits_of_the_kernels_stays_as_it_is() -> None:
    # oneDNN pools 23 x 23 to no 4 x 4, and says so only when it runs.
    network = nn.Sequential(nn.Conv2d(3, 8, 7, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()).eval()
    assert fuse_layers(network, 96)(torch.zeros(2, 3, 96, 96)).shape == (2, 128)
