"""Contract of every method of post-training quantization. A new method is tested here as soon as it is registered."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.numpy_helper import to_array
from torch import nn

from compress.models.architecture import Architecture, Network
from compress.models.checkpoints import load_variant
from compress.models.onnx_network import OnnxNetwork
from compress.quantization.choice import of_variants
from compress.quantization.config import QuantizationConfig
from compress.quantization.four_bits import BITS
from compress.quantization.method import Quantized
from compress.quantization.ptq import quantize
from compress.quantization.serialize import record_graph, save_quantized
from compress.recipe.load import load_recipe
from compress.registry import quantizer, quantizers
from compress.utils.errors import CompressError, UsageError

EXAMPLE = torch.zeros(2, 3, 32, 32)
METHODS = of_variants()
ONE_OF_EACH = [(method, observer) for method in METHODS for observer in quantizer(method).observers]


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def made(network: nn.Module) -> dict[str, Quantized]:
    """The network, quantized by each method with its own defaults."""
    return {method: quantize(network, [images(8)], EXAMPLE, method=method) for method in METHODS}


CHANGED = QuantizationConfig(keep=("conv1.0", "fc"), reduce_range=False, observer="minmax")


@pytest.fixture(scope="module")
def changed(network: nn.Module) -> dict[str, Quantized]:
    """The network, quantized by each method with other settings, on batches of uneven size."""
    batches = [images(16)[:5], images(16)[5:6], images(16)[6:]]
    return {method: quantize(network, batches, EXAMPLE, CHANGED, method) for method in METHODS}


def relative_error(quantized: Quantized, network: nn.Module, count: int = 16) -> float:
    """Largest difference of a logit, relative to the largest logit of the float network."""
    pixels = images(count, 9)
    with torch.no_grad():
        expected = network(pixels)
        return float((quantized.network(pixels) - expected).abs().max() / expected.abs().max())


def largest_weight(quantized: Quantized) -> int:
    """Largest absolute integer weight of any layer."""
    if isinstance(quantized.network, OnnxNetwork):
        stored = onnx.load_from_string(quantized.network.file).graph.initializer
        tensors = [to_array(tensor) for tensor in stored]
    else:
        state, _ = record_graph(quantized.network)  # type: ignore[arg-type]
        tensors = [value.numpy() for value in state.values()]
    weights = [tensor for tensor in tensors if tensor.dtype == np.int8 and tensor.ndim in (2, 4)]
    return max(int(np.abs(weight.astype(int)).max()) for weight in weights)


def layers_of(network: nn.Module) -> set[str]:
    return {name for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}


def refused(model: nn.Module, batches: list[torch.Tensor], method: str, config: Any = None) -> str:
    """The one line with which a method refuses a network, images or a configuration."""
    with pytest.raises(CompressError) as caught:
        quantize(model, batches, EXAMPLE, config or QuantizationConfig(), method)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- What a method declares ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_recipe_can_name_the_method_and_each_of_its_observers(method: str) -> None:
    record = quantizer(method)
    assert record.about and "\n" not in record.about
    assert len(set(record.observers)) == len(record.observers) > 0
    for observer in record.observers:
        recipe = load_recipe("quickstart", [f"stages.int8.method={method}", f"stages.int8.observer={observer}"])
        stage = next(stage for stage in recipe.stages if stage.id == "int8")
        assert (stage.method, stage.observer) == (method, observer)  # type: ignore[union-attr]


def test_declarations_need_neither_torch_nor_the_packages_of_a_method() -> None:
    code = (
        "import sys; from compress.registry import quantizers; quantizers()\n"
        "assert not {'torch', 'torchao', 'nncf', 'onnx', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("method", METHODS)
def test_an_absent_package_is_reported_with_the_command_that_installs_it(
    method: str, monkeypatch: pytest.MonkeyPatch, network: nn.Module
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    adds = "pip install 'compress-model[deploy]'" if quantizer(method).in_file else "pip install compress-model"
    line = refused(network, [images(4)], method)
    assert line.startswith(f"`method: {method}` needs {quantizer(method).packages[0]}") and line.endswith(adds)


@pytest.mark.parametrize("method", METHODS)
def test_a_recipe_cannot_ask_for_what_a_method_does_not_declare(method: str) -> None:
    record = quantizer(method)
    observers = {name for other in quantizers().values() for name in other.observers} - set(record.observers)
    changes = {"observer": next(iter(sorted(observers)))}
    if not record.corrects:
        changes |= {"bias_correction": "fast", "equalize": "true"}
    if not record.in_file:
        changes |= {"linear_weight_bits": "4"}
    if "portable" not in record.targets:
        changes |= {"target": "portable"}
    if not record.trains:
        changes |= {"training": "{epochs: 1}"}
    for key, value in changes.items():
        with pytest.raises(UsageError, match=rf"stages\.int8\.{key}: `method: {method}`"):
            load_recipe("quickstart", [f"stages.int8.method={method}", f"stages.int8.{key}={value}"])


@pytest.mark.parametrize("method", [name for name in METHODS if not quantizer(name).in_file])
def test_4_bit_weights_are_refused_by_a_method_without_them(method: str, network: nn.Module) -> None:
    line = refused(network, [images(4)], method, QuantizationConfig(linear_weight_bits=BITS))
    assert f"`method: {method}` does not have `linear_weight_bits: {BITS}`" in line


# --- What a method makes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_layer_is_int8_and_the_logits_stay_close(
    method: str, network: nn.Module, made: dict[str, Quantized]
) -> None:
    quantized, layers = made[method], layers_of(network)
    assert dict(quantized.layers) == dict.fromkeys(layers, (8, 8))
    assert quantized.convolutions == (len(layers) - 1, len(layers) - 1)
    assert 0 < relative_error(quantized, network) < 0.15
    assert quantized.network(images(1)).shape == (1, 4) and quantized.network(images(5)).shape == (5, 4)


@pytest.mark.parametrize(("method", "observer"), ONE_OF_EACH)
def test_every_observer_gives_a_network_close_to_the_float_one(
    method: str, observer: str, network: nn.Module, made: dict[str, Quantized]
) -> None:
    default = observer == quantizer(method).observers[0]
    start = copy.deepcopy(network) if default else network  # a copy is exported anew
    quantized = quantize(start, [images(8)], EXAMPLE, QuantizationConfig(observer=observer), method)
    assert relative_error(quantized, network) < 0.25
    if default:  # the same settings give the same network
        assert torch.equal(quantized.network(images(4)), made[method].network(images(4)))
        if isinstance(quantized.network, OnnxNetwork):
            assert quantized.network.file == made[method].network.file


@pytest.mark.parametrize("method", [name for name in METHODS if quantizer(name).corrects])
def test_bias_correction_and_equalization_change_the_network(
    method: str, network: nn.Module, made: dict[str, Quantized]
) -> None:
    config = QuantizationConfig(bias_correction="fast", equalize=True)
    corrected = quantize(network, [images(8)], EXAMPLE, config, method)
    assert relative_error(corrected, network) < 0.15
    assert not torch.equal(corrected.network(images(4)), made[method].network(images(4)))


@pytest.mark.parametrize("method", METHODS)
def test_layers_that_are_kept_stay_in_float(
    method: str, made: dict[str, Quantized], changed: dict[str, Quantized]
) -> None:
    assert set(made[method].layers) - set(changed[method].layers) == {"conv1.0", "fc"}
    assert changed[method].convolutions[0] == made[method].convolutions[0] - 1


@pytest.mark.parametrize("method", METHODS)
def test_weights_have_7_bits_unless_the_range_is_whole(
    method: str, made: dict[str, Quantized], changed: dict[str, Quantized]
) -> None:
    assert 0.9 * 64 <= largest_weight(made[method]) <= 64
    assert 2 * 255 * largest_weight(made[method]) <= 2**15, "two products fit into 16 bits"
    assert 0.9 * 128 <= largest_weight(changed[method]) <= 128


@pytest.mark.parametrize("method", METHODS)
def test_the_sizes_of_calibration_batches_do_not_matter_to_extremes(
    method: str, network: nn.Module, changed: dict[str, Quantized]
) -> None:
    whole = quantize(network, [images(16)], EXAMPLE, CHANGED, method).network(images(4, 5)).detach()
    uneven = changed[method].network(images(4, 5)).detach()
    assert (whole - uneven).abs().max() < 0.05 * whole.abs().max(), "up to the rounding of a scale"


@pytest.mark.parametrize("method", METHODS)
def test_one_calibration_image_is_enough_and_the_float_network_stays_as_it_is(
    method: str, network: nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    network = copy.deepcopy(network)  # exported anew
    before = copy.deepcopy(network.state_dict())
    quantized = quantize(network, [images(1)], EXAMPLE, method=method)
    assert quantized.convolutions[0] == quantized.convolutions[1] > 0
    assert relative_error(quantized, network) < 0.5
    assert not network.training and all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("method", METHODS)
def test_a_stored_network_is_restored_bit_for_bit(
    method: str, network: nn.Module, architecture: Architecture, changed: dict[str, Quantized], tmp_path: Path
) -> None:
    quantized = changed[method].network
    size = save_quantized(tmp_path, Network(network, architecture), quantized, CHANGED, method)
    again = load_variant(tmp_path)
    record = again.architecture.quantization
    assert record and (record.method, record.keep, record.reduce_range) == (method, CHANGED.keep, False)
    assert again.preprocess == architecture.preprocess and size == max(f.stat().st_size for f in tmp_path.iterdir())
    for count in (1, 6):
        assert torch.equal(again.model(images(count, 3)), quantized(images(count, 3)))


# --- What a method refuses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_useless_calibration_images_are_refused(method: str, network: nn.Module) -> None:
    black = torch.full((4, 3, 32, 32), -2.0)
    assert refused(network, [], method) == "no calibration images"
    assert "each of the 8 calibration images is one flat colour" in refused(network, [black, black], method)
    assert "a calibration image holds NaN" in refused(network, [images(2), black * float("nan")], method)


@pytest.mark.parametrize("method", METHODS)
def test_a_network_with_broken_weights_is_refused(method: str, network: nn.Module) -> None:
    broken = copy.deepcopy(network)
    with torch.no_grad():
        broken.get_parameter("fc.weight")[0, 0] = float("nan")
    assert refused(broken, [images(4)], method).startswith("the weight fc.weight holds NaN or infinite values")


@pytest.mark.parametrize("method", METHODS)
def test_a_network_without_convolutions_and_linears_is_refused(method: str) -> None:
    nothing = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()).eval()
    assert "no convolution or linear that could be quantized" in refused(nothing, [images(4)], method)


@pytest.mark.parametrize("method", METHODS)
def test_a_network_that_cannot_be_captured_is_refused(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    class Deciding(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return inputs if float(inputs.sum()) > 0 else -inputs

    line = refused(Deciding(), [images(4)], method)
    assert line.startswith("Deciding cannot be ") and "Could not guard" in line
    assert capsys.readouterr() == ("", "")
