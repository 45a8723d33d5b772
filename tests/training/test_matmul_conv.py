"""Convolutions as matrix products have the values and gradients of the convolutions that they replace."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from compress.training.formats import Format
from compress.training.matmul_conv import MatmulConvolutions

CPU = torch.device("cpu")
SHAPES = [  # channels in and out, side, settings of nn.Conv2d
    (256, 256, 2, {"kernel_size": 3, "padding": 1, "bias": False}),
    (256, 128, 5, {"kernel_size": 3, "padding": 1, "stride": 2}),
    (128, 256, 4, {"kernel_size": 1, "stride": 2, "bias": False}),
    (256, 128, 6, {"kernel_size": (3, 2), "padding": (1, 0), "stride": (3, 2)}),
    (256, 128, 1, {"kernel_size": 3, "padding": 1}),
    (256, 128, 3, {"kernel_size": 3}),
]
UNCHANGED = [
    (256, 256, 2, {"kernel_size": 3, "padding": 1, "groups": 2}),
    (256, 256, 3, {"kernel_size": 3, "padding": 2, "dilation": 2}),
    (256, 256, 3, {"kernel_size": 3, "padding": "same"}),
    (256, 256, 8, {"kernel_size": 3, "padding": 1}),  # 64 pixels
    (16, 16, 2, {"kernel_size": 3, "padding": 1}),  # 256 weights
]


class Convolutions(TorchDispatchMode):
    """Counts the convolutions that torch computes."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += func is torch.ops.aten.convolution.default
        return func(*args, **(kwargs or {}))


def computed(layer: nn.Module, images: Tensor, one: Format) -> tuple[Tensor, Tensor, list[Tensor], int]:
    """Return output, gradient of the images, gradients of the weights, and convolutions that torch was asked for."""
    images = images.clone().requires_grad_()
    layer.zero_grad()
    counter = Convolutions()
    with one.forward_context(CPU), counter:
        output = layer(images)
    output.float().square().sum().backward()
    assert images.grad is not None
    return output.detach(), images.grad, [p.grad for p in layer.parameters() if p.grad is not None], counter.count


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("channels", "out", "side", "settings"), SHAPES)
def test_values_and_gradients_are_those_of_the_convolution(
    channels: int, out: int, side: int, settings: dict[str, int], channels_last: bool
) -> None:
    torch.manual_seed(0)
    one = Format(channels_last=channels_last)
    layer = nn.Conv2d(channels, out, **settings).to(memory_format=one.memory_format)
    images = torch.randn(3, channels, side, side)
    expected = computed(layer, images, one)
    found = computed(layer, images, Format(channels_last=channels_last, matmul=True))
    assert (expected[3], found[3]) == (1, 0), "the convolution was not replaced"
    torch.testing.assert_close(found[:3], expected[:3], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("channels", "out", "side", "settings"), UNCHANGED)
def test_other_convolutions_are_computed_as_ever(channels: int, out: int, side: int, settings: dict[str, int]) -> None:
    torch.manual_seed(0)
    layer, images = nn.Conv2d(channels, out, **settings), torch.randn(2, channels, side, side)
    expected, found = computed(layer, images, Format()), computed(layer, images, Format(matmul=True))
    assert found[3] == 1 and torch.equal(found[0], expected[0])


def test_under_autocast_they_compute_in_bf16() -> None:
    torch.manual_seed(0)
    layer, images = nn.Conv2d(256, 256, 3, padding=1), torch.randn(2, 256, 2, 2)
    exact, found = computed(layer, images, Format()), computed(layer, images, Format("bf16-mixed", True, True))
    assert found[0].dtype == torch.bfloat16 and found[2][0].dtype == torch.float32
    torch.testing.assert_close(found[0].float(), exact[0], rtol=0.02, atol=0.02)
    torch.testing.assert_close(found[2], exact[2], rtol=0.05, atol=0.2)


def test_a_frozen_layer_gets_no_gradient() -> None:
    layer = nn.Conv2d(256, 256, 3, padding=1).requires_grad_(False)
    _, of_images, of_weights, _ = computed(layer, torch.randn(2, 256, 2, 2), Format(matmul=True))
    assert of_weights == [] and bool(of_images.abs().sum() > 0)


def test_a_network_for_larger_images_is_untouched_by_the_context() -> None:
    layer, images = nn.Conv2d(256, 256, 3, padding=1), torch.randn(1, 256, 7, 7)
    with MatmulConvolutions():
        inside = layer(images)
    assert torch.equal(inside, layer(images))
