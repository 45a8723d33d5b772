"""The methods that quantize a network's ONNX file, beside the one that quantizes its graph."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import timm
import torch
from onnx.numpy_helper import to_array
from torch import nn

from compress.data.preprocess import Preprocess
from compress.deployment.export import export
from compress.deployment.runtimes import find_runtime
from compress.models.architecture import Architecture, Network
from compress.models.checkpoints import load_variant
from compress.quantization.config import QuantizationConfig
from compress.quantization.method import Quantized
from compress.quantization.onnx_network import OnnxNetwork
from compress.quantization.ptq import quantize
from compress.quantization.serialize import save_quantized
from compress.recipe.load import load_recipe
from compress.registry import QUANTIZERS, quantizer
from compress.utils.errors import CompressError, UsageError

IN_A_FILE = ("nncf", "onnxruntime")
EXAMPLE = torch.zeros(2, 3, 32, 32)
PREPROCESS = {"resolution": 32, "mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic", "classes": [*"abcd"]}


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A small ResNet whose batch normalisation has seen images."""
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=4).train()
    with torch.no_grad():
        for seed in range(4):
            model(images(16, seed))
    return model.eval()


@pytest.fixture(scope="module")
def made(network: nn.Module) -> dict[str, Quantized]:
    return {method: quantize(network, [images(8)], EXAMPLE, method=method) for method in IN_A_FILE}


def weights(quantized: Quantized) -> list[np.ndarray]:
    """Integer weights of the layers."""
    assert isinstance(quantized.network, OnnxNetwork)
    tensors = [to_array(tensor) for tensor in onnx.load_from_string(quantized.network.file).graph.initializer]
    return [tensor for tensor in tensors if tensor.dtype == np.int8 and tensor.ndim in (2, 4)]


@pytest.mark.parametrize("method", IN_A_FILE)
def test_every_layer_is_quantized_and_the_answers_stay(
    method: str, network: nn.Module, made: dict[str, Quantized], capsys: pytest.CaptureFixture[str]
) -> None:
    quantized, pixels = made[method], images(16, 9)
    layers = {name for name, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert set(quantized.layers) == layers and set(quantized.layers.values()) == {(8, 8)}
    assert quantized.convolutions == (len(layers) - 1, len(layers) - 1)
    expected = network(pixels).detach()
    difference = (quantized.network(pixels) - expected).abs().max()
    assert 0 < difference < 0.15 * expected.abs().max()
    assert len(weights(quantized)) == len(layers)
    assert all(np.abs(values.astype(int)).max() <= 64 for values in weights(quantized)), "seven bits"
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("method", IN_A_FILE)
def test_openvino_and_onnx_runtime_run_all_of_it_in_integer(
    method: str, made: dict[str, Quantized], tmp_path: Path
) -> None:
    network = made[method].network
    built = export(network, tmp_path, ["onnxruntime", "openvino"], PREPROCESS)
    assert isinstance(network, OnnxNetwork) and built["onnxruntime"].read_bytes() == network.file
    pixels = images(4, 5)
    for runtime, path in built.items():
        covered = find_runtime(runtime).coverage(path)
        assert covered.integer_convs == covered.convs > 0 and (covered.share or 0) > 0.9, runtime
        answers = find_runtime(runtime).load(path, 1)(pixels.numpy())
        np.testing.assert_allclose(answers, network(pixels).numpy(), atol=0.02)
    with pytest.raises(
        UsageError, match="the runtime inductor does not take networks quantized as ONNX files; quantize with torchao"
    ):
        export(network, tmp_path, ["inductor"], PREPROCESS)


@pytest.mark.parametrize("method", IN_A_FILE)
def test_the_settings_arrive(method: str, network: nn.Module, made: dict[str, Quantized]) -> None:
    settings: dict[str, Any] = {"keep": ("conv1.0", "fc"), "reduce_range": False, "observer": "percentile"}
    settings |= {"bias_correction": "fast", "equalize": True} if quantizer(method).corrects else {}
    other = quantize(network, [images(8)], EXAMPLE, QuantizationConfig(**settings), method)
    assert set(made[method].layers) - set(other.layers) == {"conv1.0", "fc"}
    assert max(np.abs(values.astype(int)).max() for values in weights(other)) == 127


def test_the_same_settings_give_the_same_bytes(network: nn.Module, made: dict[str, Quantized]) -> None:
    for method, first in made.items():
        again = quantize(network, [images(8)], EXAMPLE, method=method)
        assert again.network.file == first.network.file, method


def test_one_image_is_enough_and_linears_of_a_transformer_are_known(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, num_classes=4).eval()
    quantized = quantize(model, [images(1)], EXAMPLE, QuantizationConfig(keep=("head",)), "onnxruntime")
    layers = {name for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert set(quantized.layers) == layers - {"head"}


class Odd(nn.Module):
    """Has an operator that ONNX lacks."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(self.convolution(inputs)).mean((2, 3))


@pytest.mark.parametrize("method", IN_A_FILE)
def test_an_operator_that_onnx_lacks_is_one_line(method: str) -> None:
    with pytest.raises(CompressError, match=r"Odd cannot be exported to ONNX: .*bessel_j0") as caught:
        quantize(Odd().eval(), [images(2)], EXAMPLE, method=method)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", QUANTIZERS)
def test_one_calibration_image_is_enough(method: str, network: nn.Module) -> None:
    quantized, pixels = quantize(network, [images(1)], EXAMPLE, method=method), images(8, 9)
    assert quantized.convolutions[0] == quantized.convolutions[1] > 0
    with torch.no_grad():
        difference = (quantized.network(pixels) - network(pixels)).abs().max()
    assert difference < 0.5 * network(pixels).abs().max()


@pytest.mark.parametrize("method", QUANTIZERS)
def test_what_cannot_be_quantized_is_one_line(method: str, network: nn.Module) -> None:
    broken = copy.deepcopy(network)
    with torch.no_grad():
        broken.get_parameter("fc.weight")[0, 0] = float("nan")
    with pytest.raises(CompressError, match=r"the weight fc\.weight holds NaN or infinite values"):
        quantize(broken, [images(4)], EXAMPLE, method=method)
    nothing = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    with pytest.raises(CompressError, match="no convolution or linear that could be quantized"):
        quantize(nothing, [images(4)], EXAMPLE, method=method)
    with pytest.raises(CompressError, match="each of the 4 calibration images is one flat colour"):
        quantize(network, [torch.zeros(4, 3, 32, 32)], EXAMPLE, method=method)


def test_a_stored_file_is_read_back(made: dict[str, Quantized], tmp_path: Path) -> None:
    network = made["nncf"].network
    assert isinstance(network, OnnxNetwork)
    architecture = Architecture(
        library="timm",
        model="test_resnet",
        classes=("a", "b"),
        resolution=32,
        preprocess=Preprocess(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
    )
    size = save_quantized(tmp_path, Network(nn.Identity(), architecture), network, QuantizationConfig(), "nncf")
    assert size == (tmp_path / "model.onnx").stat().st_size == len(network.file)
    again = load_variant(tmp_path).model
    assert torch.equal(again(images(3)), network(images(3)))
    (tmp_path / "model.onnx").write_bytes(network.file[: len(network.file) // 2])
    with pytest.raises(CompressError, match="ONNX Runtime cannot read the quantized network"):
        load_variant(tmp_path).model(images(1))


@pytest.mark.parametrize("method", QUANTIZERS)
def test_an_absent_package_is_said_with_what_adds_it(
    method: str, monkeypatch: pytest.MonkeyPatch, network: nn.Module
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    adds = r"pip install compress-model" if method == "torchao" else r"pip install 'compress-model\[deploy\]'"
    with pytest.raises(CompressError, match=f"`method: {method}` needs {quantizer(method).packages[0]}.*: {adds}$"):
        quantize(network, [images(4)], EXAMPLE, method=method)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "{method: nncf, observer: entropy}",
            "`method: nncf` does not support 'entropy'; allowed: mean, minmax, histogram or",
        ),
        (
            "{method: onnxruntime, bias_correction: fast}",
            "`method: onnxruntime` does not support it; remove it or set `method: nncf`",
        ),
        ("{equalize: true}", "`method: torchao` does not support it; remove it or set `method: nncf`"),
        ("{method: tensorflow}", "must be 'torchao', 'nncf' or 'onnxruntime'"),
    ],
)
def test_a_setting_that_a_method_lacks_is_refused(change: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_recipe("quickstart", [f"stages.int8={{id: int8, kind: quantize, from: pruned, {change[1:]}"])


def test_a_runtime_that_reads_no_onnx_is_refused_with_the_recipe() -> None:
    changes = ["stages.int8.method=nncf", "stages.files.runtimes=[onnxruntime, inductor]"]
    with pytest.raises(
        UsageError, match="inductor does not support networks quantized by nncf; move int8 to another export stage"
    ):
        load_recipe("quickstart", changes)


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match=r"model\.onnx cannot be read: No such file"):
        OnnxNetwork.read(tmp_path / "model.onnx")
