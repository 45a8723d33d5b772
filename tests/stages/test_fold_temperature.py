"""Folding a temperature into the last layer of float and quantized networks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from compress.models.factory import create_model
from compress.models.onnx_network import OnnxNetwork
from compress.quantization.config import QuantizationConfig
from compress.quantization.ptq import quantize
from compress.stages.export.fold_temperature import divide_logits
from compress.utils.errors import CompressError

IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def small() -> nn.Module:
    torch.manual_seed(0)
    return create_model("timm", "test_resnet", 3, 32).eval()


class Convolutional(nn.Module):
    """Ends in a convolution with one output per class."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images).relu().mean((2, 3), keepdim=True)).flatten(1)


class Wrapped(nn.Module):
    """Ends in something else than its last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = small()

    def forward(self, images: Tensor) -> Tensor:
        return 5 * torch.tanh(self.body(images))


@torch.no_grad()
@pytest.mark.parametrize("model", [small(), Convolutional(), nn.Sequential(small(), nn.Identity())])
def test_logits_of_float_networks_are_divided(model: nn.Module) -> None:
    before = model(IMAGES)
    divide_logits(model, 2.5, IMAGES)
    assert torch.allclose(model(IMAGES), before / 2.5, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("settings", [{}, {"target": "portable"}, {"keep": ("fc",)}])
def test_integers_of_quantized_networks_stay(settings: dict[str, object]) -> None:
    config = QuantizationConfig(**settings)  # type: ignore[arg-type]
    graph = quantize(small(), [IMAGES], torch.zeros(2, 3, 32, 32), config, "torchao").network
    before = graph(IMAGES)
    integers = {name: value.clone() for name, value in graph.state_dict().items() if value.dtype == torch.int8}
    divide_logits(graph, 0.4, IMAGES)
    assert torch.allclose(graph(IMAGES), before / 0.4, atol=1e-5)
    assert integers and all(torch.equal(graph.state_dict()[name], value) for name, value in integers.items())


class Twice(nn.Module):
    """Uses its last layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 5, 3), nn.Linear(5, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.head(self.body(images).mean((2, 3))))


class Derived(nn.Module):
    """Computes the weight of its last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.weight = nn.Conv2d(3, 5, 3), nn.Parameter(torch.ones(4, 5))

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.linear(self.body(images).mean((2, 3)), torch.tanh(self.weight))


def quantized(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        return quantize(model.eval(), [IMAGES], torch.zeros(2, 3, 32, 32), QuantizationConfig(), "torchao").network


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Twice(), "could not be folded into Twice"),
        (quantized(Wrapped()), "ends in a linear layer, not in aten.mul"),
        (quantized(Derived()), "cannot be folded into a weight that aten.tanh.default makes"),
    ],
)
def test_what_cannot_be_folded_is_refused(model: nn.Module, words: str) -> None:
    with pytest.raises(CompressError, match=words):
        divide_logits(model, 2.0, IMAGES)


def test_networks_without_a_last_layer_are_refused() -> None:
    with pytest.raises(CompressError, match="ends in a linear layer, and Wrapped does not"):
        divide_logits(Wrapped().eval(), 2.0, IMAGES)
    with pytest.raises(CompressError, match="this is an ONNX file; leave it out"):
        divide_logits(OnnxNetwork(b""), 2.0, IMAGES)
