"""Why INT8 hurts: errors of single layers, and calibration sets that do not cover what validation shows."""

from __future__ import annotations

import math
from itertools import combinations
from statistics import mean

import pytest
import torch
from torch import Tensor, nn

from compress.efficiency.collapse import blame, next_steps
from compress.quantization.calibration_range import expected_maximum, expected_range, spread
from compress.quantization.config import QuantizationConfig
from compress.quantization.noise import explain
from compress.quantization.noise_pt2e import float_graph
from compress.quantization.noise_record import sqnr_db
from compress.quantization.ptq import quantize
from compress.results import Accuracy, Quantization, QuantizationNoise
from compress.stages.quantize.make import collapse_lines

EXAMPLE = torch.zeros(2, 3, 16, 16)
MINMAX = QuantizationConfig(observer="minmax")


def images(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def three_layers() -> nn.Sequential:
    torch.manual_seed(0)
    features = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3), nn.ReLU()]
    return nn.Sequential(*features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()


def with_outlier(model: nn.Sequential) -> nn.Sequential:
    """Make one channel between the two convolutions large, though nothing depends on it."""
    with torch.no_grad():
        model[0].weight[2].mul_(500).abs_()
        model[3].weight[:, 2] = 0
    return model


def noise_of(
    model: nn.Module,
    config: QuantizationConfig,
    calibration: Tensor,
    validation: Tensor | None = None,
    method: str = "torchao",
) -> QuantizationNoise:
    made = quantize(model, [calibration], EXAMPLE, config, method)
    noise = explain(model, made, config, [calibration], [] if validation is None else [validation])
    assert noise is not None and {layer.layer for layer in noise.layers} == set(made.layers)
    return noise


def each_method() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("method", ["torchao", "nncf", "onnxruntime"])


def record(noise: QuantizationNoise | None, observer: str = "histogram") -> Quantization:
    return Quantization(method="torchao", observer=observer, keep=(), noise=noise)


@each_method()
def test_a_layer_with_an_outlier_channel_is_named_first_with_what_to_try(method: str) -> None:
    plain = noise_of(three_layers(), MINMAX, images(32), images(32, 1), method)
    assert all(layer.cause != "outlier channel" for layer in plain.layers)
    noise = noise_of(with_outlier(three_layers()), MINMAX, images(32), images(32, 1), method)
    worst = noise.layers[0]
    assert worst.layer == "3" and worst.cause == "outlier channel"
    assert worst.removes is not None and worst.removes > 0.9
    assert worst.channel_spread is not None and worst.channel_spread > 50
    assert worst.sqnr_db is not None and worst.sqnr_db < 15
    assert noise.covers is True and worst.saturated == 0 and worst.range[0] == 0
    assert worst.range[1] == pytest.approx(worst.quantized_range[1], rel=1e-5)
    assert next_steps(record(noise, "minmax"))[0] == "`method: nncf` with `equalize: true`"
    assert "layer in float: 3 " in (blame(record(noise)) or "")


class ChannelsLast(nn.Module):
    """A linear layer over the channels of maps, as in ConvNeXt; one channel is far larger than the others."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 8), nn.Linear(8, 5)
        with torch.no_grad():
            self.conv.weight[2] *= 200

    def forward(self, given: Tensor) -> Tensor:
        maps: Tensor = self.linear(self.conv(given).permute(0, 2, 3, 1))
        return self.fc(maps.mean((1, 2)))  # type: ignore[no-any-return]


@each_method()
def test_channels_of_a_linear_layer_over_maps_are_in_its_last_dimension(method: str) -> None:
    torch.manual_seed(0)
    noise = noise_of(ChannelsLast().eval(), MINMAX, images(32), images(32, 1), method)
    spreads = {layer.layer: layer.channel_spread for layer in noise.layers}
    assert spreads["linear"] is not None and spreads["linear"] > 50


@pytest.mark.parametrize("method", ["torchao", "nncf"])  # `onnxruntime` rounds the logits too
def test_sqnr_and_saturation_are_those_of_a_computation_by_hand(method: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 5)).eval()
    config = QuantizationConfig(observer="percentile", percentile=90.0)
    given = images(24) - 0.3
    quantized = quantize(model, [given], EXAMPLE, config, method)
    graph, noise = quantized.network, explain(model, quantized, config, [given], [])
    assert noise is not None
    (layer,) = noise.layers
    with torch.no_grad():
        exact, rounded = model(given).double(), graph(given).double()
    expected = 10 * math.log10(float(exact.square().sum() / (exact - rounded).square().sum()))
    assert layer.sqnr_db == pytest.approx(expected, abs=0.01)
    assert layer.network_sqnr_db == pytest.approx(expected, abs=0.01)
    assert noise.logits_sqnr_db == pytest.approx(expected, abs=0.01)
    assert layer.removes == pytest.approx(1, abs=1e-6), "in float, the only layer makes no error"
    low, high = layer.quantized_range
    step = (high - low) / 255
    beyond = ((given < low - step / 2) | (given > high + step / 2)).float().mean()
    assert layer.saturated == pytest.approx(float(beyond)) and 0.04 < layer.saturated < 0.11
    assert layer.cause == "saturation"
    assert layer.range == (float(given.min()), float(given.max()))
    assert layer.outside is None and noise.covers is None and noise.validation_images == 0
    assert next_steps(record(noise, "percentile"))[0] == "`observer: minmax`"
    assert sqnr_db(100.0, 1.0) == pytest.approx(20) and sqnr_db(1.0, 0.0) is None


@each_method()
def test_one_grey_image_does_not_cover_validation(method: str) -> None:
    grey = torch.full((1, 3, 16, 16), 0.5)
    grey[0, 0, 0, 0] = 0.51  # an image of one colour is refused
    noise = noise_of(three_layers(), MINMAX, grey, images(32, 1), method)
    assert noise.covers is False and noise.outside is not None and noise.outside > 0.4
    assert noise.half_range is None and noise.calibration_images == 1 and noise.validation_images == 32
    assert noise.layers[0].saturated_validation and noise.layers[0].saturated_validation > 0.05
    assert any(layer.cause == "saturation" for layer in noise.layers)
    assert "does not cover validation" in (blame(record(noise)) or "")
    assert next_steps(record(noise))[0].startswith("more calibration images")


def test_a_calibration_set_of_such_images_covers_validation() -> None:
    noise = noise_of(three_layers(), MINMAX, images(64), images(64, 1))
    assert noise.covers is True and noise.half_range is not None and 0.9 < noise.half_range < 1
    assert "cover" not in (blame(record(noise)) or "")


@each_method()
def test_layers_in_float_are_no_part_of_it_and_the_network_stays_as_it_is(method: str) -> None:
    model, config = three_layers(), QuantizationConfig(observer="minmax", keep=("0",))
    quantized = quantize(model, [images(16)], EXAMPLE, config, method)
    before = quantized.network(images(4, 2))
    noise = explain(model, quantized, config, [images(16)], [images(4, 1)])
    assert noise is not None and {layer.layer for layer in noise.layers} == set(quantized.layers) == {"3", "7"}
    assert torch.equal(quantized.network(images(4, 2)), before)


def test_a_file_with_equalized_channels_has_other_tensors_than_the_float_one() -> None:
    config = QuantizationConfig(observer="minmax", equalize=True)
    made = quantize(three_layers(), [images(16)], EXAMPLE, config, "nncf")
    assert explain(three_layers(), made, config, [images(16)], []) is None


@pytest.mark.parametrize("method", ["nncf", "onnxruntime"])
def test_layers_behind_operators_that_move_values_are_compared_too(method: str) -> None:
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU()]
    noise = noise_of(
        nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(200, 4)).eval(), MINMAX, images(16), None, method
    )
    assert all(layer.sqnr_db and layer.sqnr_db > 25 for layer in noise.layers)
    assert sum(layer.removes or 0 for layer in noise.layers) == pytest.approx(1, abs=0.4)


def test_the_float_graph_computes_the_float_network() -> None:
    model = three_layers()
    with torch.no_grad():
        assert torch.allclose(float_graph(model, EXAMPLE, MINMAX)(images(4)), model(images(4)), atol=1e-6)


@pytest.mark.parametrize("drawn", [1, 2, 3, 5])
def test_the_expected_range_of_half_of_the_images_is_the_mean_of_all_halves(drawn: int) -> None:
    highs, lows = [3.0, 9.0, 4.0, 1.0, 7.0], [-1.0, -2.0, 0.0, -5.0, -1.0]
    assert expected_maximum(highs, drawn) == pytest.approx(mean(map(max, combinations(highs, drawn))))
    pairs = list(combinations(zip(lows, highs, strict=True), 2))
    widths = [max(high for _, high in pair) - min(low for low, _ in pair) for pair in pairs]
    assert expected_range(lows, highs) == pytest.approx(mean(widths) / 14)
    assert expected_range([0.0], [1.0]) is None and expected_range([1.0, 1.0], [1.0, 1.0]) is None


def test_a_draw_of_more_than_there_is_and_a_spread_without_a_median() -> None:
    with pytest.raises(ValueError, match="cannot draw 3 of 2 values"):
        expected_maximum([1.0, 2.0], 3)
    assert spread([1.0, 2.0, 10.0]) == 5 and spread([0.0, 0.0, 1.0]) is None


def accuracy(correct: int) -> Accuracy:
    top1 = correct / 100
    return Accuracy(top1=top1, correct=correct, n=100, ci95=(top1, top1), split="validation")


def test_a_collapse_on_validation_is_a_warning_with_reason_and_what_to_try() -> None:
    noise = noise_of(with_outlier(three_layers()), MINMAX, images(32), images(32, 1))
    first, reason = collapse_lines(accuracy(90), accuracy(80), record(noise, "minmax"))
    assert first.startswith("warning: INT8 lost 10.0 points on validation; try `method: nncf` with `equalize: true`")
    assert "`keep_accuracy`" in first and "3 " in reason
    (line,) = collapse_lines(accuracy(90), accuracy(50), record(None))
    assert "try more calibration images, `keep_accuracy`" in line
    assert collapse_lines(accuracy(90), accuracy(81), record(noise)) == []
    assert collapse_lines(None, accuracy(8), record(noise)) == []
