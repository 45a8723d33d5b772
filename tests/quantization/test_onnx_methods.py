"""The methods that quantize a network's ONNX file, beside the one that quantizes its graph."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

from compress.deployment.export import export
from compress.deployment.runtimes import find_runtime
from compress.measurement.compute import bit_operations, count
from compress.models.onnx_export import write_onnx
from compress.models.onnx_network import OnnxNetwork
from compress.models.onnx_padding import absorb_padding
from compress.quantization.config import QuantizationConfig
from compress.quantization.method import Quantized
from compress.quantization.ptq import quantize
from compress.recipe.load import load_recipe
from compress.utils.errors import CompressError, UsageError

IN_A_FILE = ("nncf", "onnxruntime")
EXAMPLE = torch.zeros(2, 3, 32, 32)
PREPROCESS = {"resolution": 32, "mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic", "classes": [*"abcd"]}


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def made(network: nn.Module) -> dict[str, Quantized]:
    return {method: quantize(network, [images(8)], EXAMPLE, method=method) for method in IN_A_FILE}


@pytest.mark.parametrize("method", IN_A_FILE)
def test_openvino_and_onnx_runtime_run_every_convolution_in_integer(
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


def test_the_linear_layers_of_a_transformer_are_quantized() -> None:
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, num_classes=4).eval()
    quantized = quantize(model, [images(1)], EXAMPLE, QuantizationConfig(keep=("head",)), "onnxruntime")
    layers = {name for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert set(quantized.layers) == layers - {"head"}


class Attention(nn.Module):
    """Patches, PyTorch's attention as in OpenCLIP and torchvision, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(inputs).flatten(2).transpose(1, 2)
        mixed, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return self.head(mixed.mean(1))


@pytest.mark.parametrize("method", IN_A_FILE)
def test_projections_of_attention_are_quantized_and_counted(method: str) -> None:
    torch.manual_seed(0)
    model = Attention().eval()
    bits = quantize(model, [images(4)], EXAMPLE, method=method).layers
    assert set(bits) == {"patches", "attention.in_proj_weight", "attention.out_proj", "head"}
    counted = count(model, 32).layers
    products = counted["attention"]
    assert bit_operations(counted, bits) == 64 * (sum(counted.values()) - products) + 1024 * products


class CrossAttention(Attention):
    """Attention whose queries are some of the patches."""

    def __init__(self, **settings: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True, **settings)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(inputs).flatten(2).transpose(1, 2)
        values = tokens[..., :12] if self.attention.vdim == 12 else tokens
        mixed, _ = self.attention(tokens[:, :4], tokens, values, need_weights=False)
        return self.head(mixed.mean(1))


@pytest.mark.parametrize(
    "method, settings, projections",
    [
        ("onnxruntime", {}, ["in_proj_weight"]),
        pytest.param("nncf", {}, [], marks=pytest.mark.slow),  # which leaves a weight in float that the file splits
        *(
            pytest.param(
                method, {"vdim": 12}, ["q_proj_weight", "k_proj_weight", "v_proj_weight"], marks=pytest.mark.slow
            )
            for method in IN_A_FILE
        ),
    ],
)
def test_projections_of_cross_attention_have_the_bits_of_the_file(
    method: str, settings: dict[str, int], projections: list[str]
) -> None:
    torch.manual_seed(0)
    model = CrossAttention(**settings).eval()
    bits = quantize(model, [images(4)], EXAMPLE, method=method).layers
    assert set(bits) == {"patches", "attention.out_proj", "head", *(f"attention.{name}" for name in projections)}
    counted = count(model, 32).layers
    narrow = sum(counted[name] for name in bits)
    assert bit_operations(counted, bits) == 64 * narrow + 1024 * (sum(counted.values()) - narrow)


class Odd(nn.Module):
    """Has an operator that ONNX lacks."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(self.convolution(inputs)).mean((2, 3))


@pytest.mark.parametrize("method", IN_A_FILE)
def test_an_operator_that_onnx_lacks_is_refused_in_one_line(method: str) -> None:
    with pytest.raises(CompressError, match=r"Odd cannot be exported to ONNX: .*bessel_j0") as caught:
        quantize(Odd().eval(), [images(2)], EXAMPLE, method=method)
    assert "\n" not in str(caught.value)


def as_onnx_runtime_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give ONNX Runtime's calibrators back their own way of collecting, which keeps all batches."""
    monkeypatch.setattr("compress.quantization.ort_histograms.histograms_by_batch", lambda feeds: nullcontext())


@pytest.mark.parametrize("observer", ["percentile", "entropy"])
def test_histograms_of_batches_are_those_of_all_images_at_once(
    observer: str, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = [images(8, seed) * (1 + seed) for seed in (2, 0, 1)]  # of different ranges
    config = QuantizationConfig(observer=observer, percentile=99.0)
    by_batch = quantize(network, batches, EXAMPLE, config, "onnxruntime").network
    with monkeypatch.context() as patch:
        as_onnx_runtime_does(patch)
        at_once = quantize(network, batches, EXAMPLE, config, "onnxruntime").network
    assert isinstance(by_batch, OnnxNetwork) and isinstance(at_once, OnnxNetwork)
    assert by_batch.file == at_once.file


@pytest.mark.parametrize("observer", ["percentile", "entropy", "minmax"])
def test_the_last_batch_may_be_smaller(observer: str, network: nn.Module) -> None:
    quantized = quantize(
        network, [images(8), images(3, 1)], EXAMPLE, QuantizationConfig(observer=observer), "onnxruntime"
    )
    done, total = quantized.convolutions
    assert done == total > 0


def test_activations_of_a_few_images_are_kept_at_a_time(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime
    from onnxruntime.quantization import calibrate

    sizes: list[int] = []

    class Watched(onnxruntime.InferenceSession):
        def run(self, names: object, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            made: list[np.ndarray] = super().run(names, feed)
            sizes.append(sum(values.nbytes for values in made))
            return made

    config = QuantizationConfig(observer="percentile")
    whole = quantize(network, [images(8)], EXAMPLE, config, "onnxruntime").network
    monkeypatch.setattr(calibrate.onnxruntime, "InferenceSession", Watched)
    monkeypatch.setattr("compress.quantization.ort_histograms.MAX_BYTES", 1 << 20)
    split = quantize(network, [images(8)], EXAMPLE, config, "onnxruntime").network
    assert max(sizes) <= 1 << 20 and len(sizes) > 3
    torch.testing.assert_close(split(images(4)), whole(images(4)), atol=1e-3, rtol=1e-3)


def test_a_file_that_is_cut_short_is_refused(made: dict[str, Quantized], tmp_path: Path) -> None:
    network = made["nncf"].network
    assert isinstance(network, OnnxNetwork)
    (tmp_path / "model.onnx").write_bytes(network.file[: len(network.file) // 2])
    with pytest.raises(CompressError, match="ONNX Runtime cannot read the network"):
        OnnxNetwork.read(tmp_path / "model.onnx")(images(1))


@pytest.mark.parametrize("method", IN_A_FILE)
def test_a_network_that_no_message_can_hold_is_refused_with_the_remedy(
    method: str, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compress.quantization.onnx_ptq.MAX_BYTES", 1000)
    with pytest.raises(CompressError, match=rf"takes 0\.0. GB in ONNX, and {method} quantizes up to 2 GB; set `meth"):
        quantize(network, [images(4)], images(1), QuantizationConfig(), method)


def test_what_a_library_raises_becomes_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise KeyError("an operator")

    monkeypatch.setattr("compress.quantization.onnxruntime_static.quantize_file", refuse)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with pytest.raises(CompressError, match="Sequential cannot be quantized by onnxruntime: KeyError: 'an oper"):
        quantize(model, [images(4)], EXAMPLE, method="onnxruntime")


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
        ("{method: torchao, equalize: true}", "`method: torchao` does not support it; remove it or set `method: nncf`"),
        ("{method: tensorflow}", "must be 'auto', 'torchao', 'nncf' or 'onnxruntime'"),
    ],
)
def test_a_setting_that_a_method_lacks_is_refused_with_those_that_have_it(change: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_recipe("quickstart", [f"stages.int8={{id: int8, kind: quantize, from: pruned, {change[1:]}"])


def test_a_runtime_that_reads_no_onnx_is_refused_with_the_recipe() -> None:
    changes = ["stages.int8.method=nncf", "stages.files.runtimes=[onnxruntime, inductor]"]
    with pytest.raises(
        UsageError, match=r"inductor does not support networks quantized by nncf; move .*int8 to another export stage"
    ):
        load_recipe("quickstart", changes)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match=r"model\.onnx cannot be read: No such file"):
        OnnxNetwork.read(tmp_path / "model.onnx")


class SamePooling(nn.Module):
    """Pads before its maximum as TensorFlow does, by minus infinity."""

    def __init__(self, value: float = float("-inf"), pads: tuple[int, ...] = (0, 1, 0, 1), twice: bool = False) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.linear, self.value, self.pads, self.twice = nn.Linear(16, 4), value, pads, twice

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        padded = functional.pad(self.first(images), self.pads, value=self.value)
        pooled = functional.max_pool2d(padded, 3, 2)
        if self.twice:
            pooled = pooled + functional.max_pool2d(padded, 5, 2, 1)
        return self.linear(self.second(pooled).relu().mean((2, 3)))


@pytest.mark.parametrize("observer", ["minmax", "percentile", "entropy"])
def test_infinite_padding_does_not_reach_the_ranges(observer: str) -> None:
    torch.manual_seed(0)
    model, pixels = SamePooling().eval(), images(16)
    made = quantize(model, [pixels], EXAMPLE, QuantizationConfig(observer=observer), "onnxruntime")
    with torch.no_grad():
        expected = model(pixels)
    assert (made.network(pixels) - expected).abs().max() < 0.1 * expected.abs().max()


@pytest.mark.parametrize(
    ("model", "pads"),
    [
        (SamePooling(), [[0, 0, 1, 1]]),
        (SamePooling(pads=(1, 1, 2, 0)), [[2, 1, 0, 1]]),
        (SamePooling(value=0.0), None),
        (SamePooling(pads=(3, 3, 3, 3)), None),  # as wide as the kernel
        (SamePooling(twice=True), None),  # another one reads it
    ],
)
def test_a_maximum_does_the_padding_before_it(model: nn.Module, pads: list[list[int]] | None, tmp_path: Path) -> None:
    write_onnx(model.eval(), 32, tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    absorb_padding(proto)
    kept = [node.op_type for node in proto.graph.node].count("Pad")
    pools = [node for node in proto.graph.node if node.op_type == "MaxPool"]
    found = [list(each.ints) for node in pools for each in node.attribute if each.name == "pads"]
    assert (kept, found) == ((0, pads) if pads else (1, found))
    onnx.checker.check_model(proto, full_check=True)
    with torch.no_grad():
        expected = model(images(3)).numpy()
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    np.testing.assert_allclose(session.run(None, {"images": images(3).numpy()})[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "amounts", "axes", "kernel", "own"),
    [
        ((1, 3, 8, 8), [-1, 0, 0, 0], [2, 3], [3, 3], [1, 1, 1, 1]),  # it also crops
        ((1, 3, 8, 8, 8), [1, 1, 0, 0], [2, 3], [3, 3, 3], [0] * 6),
        ((1, 3, 8, 8), [1, 1, 0, 0], [1, 2], [3, 3], [0] * 4),
    ],
)
def test_other_paddings_stay(
    shape: tuple[int, ...], amounts: list[int], axes: list[int], kernel: list[int], own: list[int]
) -> None:
    constants = [
        onnx.numpy_helper.from_array(np.array(amounts), "amounts"),
        onnx.numpy_helper.from_array(np.array(-np.inf, np.float32), "value"),
        onnx.numpy_helper.from_array(np.array(axes), "axes"),
    ]
    nodes = [
        onnx.helper.make_node("Pad", ["images", "amounts", "value", "axes"], ["padded"]),
        onnx.helper.make_node("MaxPool", ["padded"], ["logits"], kernel_shape=kernel, pads=own),
    ]
    ends = [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, shape)]
    ends += [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None)]
    proto = onnx.helper.make_model(onnx.helper.make_graph(nodes, "pool", ends[:1], ends[1:], constants))
    before = proto.SerializeToString()
    absorb_padding(proto)
    assert proto.SerializeToString() == before


class Masked(nn.Module):
    """Adds an infinite mask, as attention does, before a convolution sees the softmax of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        mask = torch.zeros(32).index_fill(0, torch.arange(5), float("-inf"))
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.second((self.first(images) + self.mask).softmax(-1)).mean((2, 3))


def test_an_infinite_range_is_refused_in_one_line_or_does_no_harm() -> None:
    model, pixels = Masked().eval(), images(8)
    with torch.no_grad():
        expected = model(pixels)
    for method in ("torchao", "nncf", "onnxruntime"):
        try:
            made = quantize(model, [pixels], EXAMPLE, method=method).network
        except CompressError as error:
            assert "no finite range" in str(error) and "\n" not in str(error), method
            continue
        with torch.no_grad():
            assert (made(pixels) - expected).abs().max() < 0.1, method
