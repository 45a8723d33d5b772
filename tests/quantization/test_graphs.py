"""Graphs that torchao's PT2E quantizes, and how they are recorded and rebuilt."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import nn
from torchao.quantization.pt2e import qat_utils
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

from compress.measurement.compute import layer_macs
from compress.quantization.capture import (
    capture,
    converted,
    is_quantized,
    layer_bits,
    layer_nodes,
    quantized_convolutions,
)
from compress.quantization.config import QuantizationConfig
from compress.quantization.pt2e import convert, prepare
from compress.quantization.ptq import quantize
from compress.quantization.qat import freeze, prepare_aware
from compress.quantization.serialize import rebuild_graph, record_graph
from compress.utils.errors import CompressError

EXAMPLE = torch.zeros(2, 3, 32, 32)


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )


class Block(nn.Module):
    """As in torchvision's ResNets, one ReLU module is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.relu(self.second(self.relu(self.first(inputs))) + inputs)


def shared_relu() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


def transformer() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_vit", num_classes=4, img_size=32)


def test_convolutions_and_linears_are_quantized_and_a_training_model_stays_so() -> None:
    model = small().train()
    before = copy.deepcopy(model.state_dict())
    graph = quantize(model, [images(16), images(9, 1)], EXAMPLE).network
    assert converted(graph)
    assert quantized_convolutions(graph) == (1, 1)
    assert layer_bits(graph) == {"0": (8, 8), "5": (8, 8)}
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with torch.no_grad():
        for count in (1, 5):
            assert (graph(images(count, 2)) - model.eval()(images(count, 2))).abs().max() < 0.05


def test_eval_of_a_quantized_graph_does_nothing() -> None:
    graph = quantize(small(), [images(4)], EXAMPLE).network
    assert graph.eval() is graph and graph.train(False) is graph and not graph.training


@pytest.mark.parametrize("make", [small, shared_relu, transformer])
def test_a_recorded_graph_is_rebuilt_bit_for_bit(make: Callable[[], nn.Module]) -> None:
    graph = quantize(make(), [images(16)], EXAMPLE).network
    state, scales = record_graph(graph)
    model = make()
    for parameter in model.parameters():
        nn.init.constant_(parameter, float("nan"))  # weights of the float model are not read
    again = rebuild_graph(model, EXAMPLE, state, json.loads(json.dumps(scales)))
    with torch.no_grad():
        for count in (1, 6):
            assert torch.equal(graph(images(count, 3)), again(images(count, 3)))
    assert layer_bits(again) == layer_bits(graph)
    assert set(layer_bits(graph)) <= {name for name, _ in model.named_modules()}
    assert quantized_convolutions(again) == quantized_convolutions(graph)


def test_a_record_holds_no_float_copy_of_quantized_weights() -> None:
    state, _ = record_graph(quantize(shared_relu(), [images(4)], EXAMPLE).network)
    floats = {name: value for name, value in state.items() if value.is_floating_point()}
    assert max(value.dim() for value in floats.values()) == 1  # biases and scales
    assert sum(value.dtype == torch.int8 for value in state.values()) == 4


def test_shared_activations_of_torchvision_resnet18_are_quantized() -> None:
    graph = quantize(torchvision.models.resnet18(num_classes=4), [images(4)], EXAMPLE).network
    assert quantized_convolutions(graph) == (20, 20)
    assert {"conv1", "layer4.1.conv2", "layer2.0.downsample.0", "fc"} <= set(layer_bits(graph))


def test_a_record_of_another_architecture_is_refused() -> None:
    state, scales = record_graph(quantize(small(), [images(4)], EXAMPLE).network)
    with pytest.raises(CompressError, match="recorded from another architecture than Sequential"):
        rebuild_graph(shared_relu(), EXAMPLE, state, scales)
    with pytest.raises(CompressError, match=r"2 scales|instead of"):
        rebuild_graph(small(), EXAMPLE, state, scales[:-1])
    wider = {name: torch.cat([value, value]) if value.dim() else value for name, value in state.items()}
    with pytest.raises(CompressError, match="was recorded as"):
        rebuild_graph(small(), EXAMPLE, wider, scales)


def test_rebuilding_one_network_does_not_change_how_the_next_is_calibrated() -> None:
    first = quantize(small(), [images(16)], EXAMPLE).network
    state, scales = record_graph(first)
    rebuild_graph(small(), EXAMPLE, state, scales)
    _, again = record_graph(quantize(small(), [images(16)], EXAMPLE).network)
    assert again == scales


@pytest.mark.parametrize("aware", [False, True])
def test_a_graph_is_converted_as_by_torchao_without_its_search(aware: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), *small())
    if aware:
        observed = prepare_aware(small(), EXAMPLE, QuantizationConfig(aware=True))
    else:
        observed = prepare(capture(model, EXAMPLE), QuantizationConfig(observer="minmax"))
    observed(images(4))
    observed = freeze(observed) if aware else observed
    expected = convert_pt2e(copy.deepcopy(observed))
    captured = []
    capture_pattern = qat_utils._get_aten_graph_module_for_pattern
    monkeypatch.setattr(
        qat_utils,
        "_get_aten_graph_module_for_pattern",
        lambda *arguments, **options: captured.append(1) or capture_pattern(*arguments, **options),
    )
    graph = convert(observed)
    assert len(captured) == (24 if aware else 0)
    assert graph.code == expected.code
    assert torch.equal(graph(images(4, 1)), expected(images(4, 1)))


class Shared(nn.Module):
    """Two parents share one convolution, and one of them calls it twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        shared = nn.Conv2d(8, 8, 3, padding=1)
        self.first, self.once, self.fc = nn.Conv2d(3, 8, 3), nn.Sequential(shared), nn.Linear(8, 2)
        self.twice = nn.Sequential(shared, nn.ReLU(), shared)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.fc(self.twice(self.once(self.first(inputs))).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("keep", [(), ("once.0",)], ids=["quantized", "kept"])
def test_a_layer_that_parents_share_has_one_name_and_is_kept_in_all_calls(keep: tuple[str, ...]) -> None:
    model = Shared().eval()
    found = quantize(model, [images(8)], EXAMPLE, QuantizationConfig(keep=keep))
    assert set(found.layers) == {"first", "once.0", "fc"} - set(keep)
    assert set(found.layers) <= set(layer_macs(model, 32))
    calls = [is_quantized(node) for node, name in layer_nodes(found.network) if name == "once.0"]
    assert calls == 3 * [not keep]
