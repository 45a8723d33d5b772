from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import cache

import pytest
import timm
import torch
from torch import nn

from compress.measurement.compute import (
    bit_operations,
    count,
    layer_macs,
    macs,
    parameters,
    training_macs,
)
from compress.measurement.widths import widths
from compress.models.factory import create_model
from compress.models.jit_fuse import fuse_layers
from compress.pruning.search import prune_channels
from compress.quantization.ptq import quantize
from compress.recipe.channels import Channels
from compress.training.optim import make_ema
from compress.utils.errors import CompressError, CompressWarning


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
    """A transformer layer in eval mode is one operator, of which nothing is known."""
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


class _Attention(nn.Module):
    """Attention whose projections no module of their own runs: in PyTorch's, and in a functional one."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.own = nn.ModuleDict({"projection": nn.Linear(8, 4)})

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = images.flatten(2)[:, :, :8]  # 3 of 8 features
        mixed, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return nn.functional.linear(mixed, self.own["projection"].weight)


def test_products_with_a_weight_belong_to_the_layer_that_owns_it() -> None:
    network, tokens, width = _Attention(), 3, 8
    counted = count(network, 4)
    projections = {"attention.in_proj_weight": 3 * width, "attention.out_proj": width, "own.projection": 4}
    assert counted.layers == {
        **{name: tokens * width * outputs for name, outputs in projections.items()},
        "attention": 2 * tokens * tokens * width,
    }
    everything = training_macs(network, 4)
    network.own["projection"].weight.requires_grad_(False)
    assert everything - training_macs(network, 4) == counted.layers["own.projection"]
    kinds = {row["kind"]: row["layers"] for row in widths(network, counted.layers, {})}
    assert kinds == {"linear": 3, "product of activations": 1}


class _Pooling(nn.Module):
    """Two learnt queries attend to the 16 patches of an image; the values may be narrower than the keys."""

    def __init__(self, **settings: int | bool) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.queries = nn.Parameter(torch.zeros(2, 1, 16))
        self.attention = nn.MultiheadAttention(16, 2, **settings)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        keys = self.patches(images).flatten(2).permute(2, 0, 1)
        values = keys[:, :, : self.attention.vdim]
        same = self.attention.vdim == 16 and self.attention.in_proj_bias is not None
        return self.attention(self.queries, keys, keys if same else values, need_weights=False)[0]


QUERY, KEY = 2 * 16 * 16, 16 * 16 * 16


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize(
    "settings, projections",
    [
        ({}, {"in_proj_weight": QUERY + 2 * KEY}),  # keys and values are one product
        ({"bias": False}, {"in_proj_weight": QUERY + 2 * KEY}),  # three products
        ({"vdim": 12}, {"q_proj_weight": QUERY, "k_proj_weight": KEY, "v_proj_weight": 16 * 12 * 16}),
    ],
)
def test_projections_of_cross_attention_belong_to_their_weights(
    settings: dict[str, int | bool], projections: dict[str, int], trained: bool
) -> None:
    network = _Pooling(**settings).requires_grad_(trained)
    counted = count(network, 16)
    assert counted.layers == {
        "patches": 16 * 16 * 48,
        **{f"attention.{name}": macs for name, macs in projections.items()},
        "attention": 2 * 2 * 16 * 16,  # queries by keys, and by values
        "attention.out_proj": QUERY,
    }
    assert {row["kind"]: row["layers"] for row in widths(network, counted.layers, {})}["linear"] == len(projections) + 1


def test_only_trained_projections_of_cross_attention_have_gradients_of_their_weight() -> None:
    network = _Pooling(vdim=12)
    everything = training_macs(network, 16)
    network.attention.k_proj_weight.requires_grad_(False)
    assert everything - training_macs(network, 16) == KEY


def test_products_with_weights_in_one_storage_belong_to_each() -> None:
    flat = torch.zeros(2 * 8 * 8)
    rows, beside = (nn.Linear(8, 8, bias=False) for _ in range(2))
    rows.weight, beside.weight = (nn.Parameter(part.view(8, 8)) for part in flat.chunk(2))
    left, right = (nn.Linear(4, 8, bias=False) for _ in range(2))
    left.weight, right.weight = (nn.Parameter(part) for part in torch.zeros(8, 8).chunk(2, 1))

    def run(images: torch.Tensor, *layers: nn.Linear) -> torch.Tensor:
        inputs = images[0, 0]
        outputs = inputs @ layers[0].weight.T + (inputs @ layers[1].weight[4:].T).sum()
        return outputs + inputs[:, :4] @ layers[2].weight.T + inputs[:, 4:] @ layers[3].weight.T

    network = Function(run, rows, beside, left, right)
    assert count(network, 8).layers == {"inner.0": 512, "inner.1": 256, "inner.2": 256, "inner.3": 256}


def test_counting_leaves_the_network_as_it_was() -> None:
    model = Small().train()
    model.depthwise.eval()
    with torch.inference_mode():
        macs(model, 16)
    assert model.training and not model.depthwise.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_bit_operations_multiply_macs_by_both_widths() -> None:
    layers = {"a": 10, "b": 3}
    assert bit_operations(layers) == 13 * 1024
    assert bit_operations(layers, {"a": (8, 8)}) == 10 * 64 + 3 * 1024
    with pytest.raises(KeyError, match="no MACs of the layer c"):
        bit_operations(layers, {"c": (8, 8)})


class Function(nn.Module):
    """A function of the images as a network."""

    def __init__(self, function: Callable[..., torch.Tensor], *children: nn.Module) -> None:
        super().__init__()
        self.function, self.inner = function, nn.ModuleList(children)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.function(images, *self.inner)


def sampled(images: torch.Tensor) -> torch.Tensor:
    return nn.functional.grid_sample(images, torch.zeros(1, 2, 2, 2), align_corners=False)


@torch.library.custom_op("compress_tests::mixed", mutates_args=())
def mixed(images: torch.Tensor) -> torch.Tensor:
    return images @ images


@pytest.mark.parametrize(
    "name, network",
    [
        ("aten.grid_sampler_2d", Function(sampled)),
        ("aten._fft_r2c", Function(torch.fft.rfft2)),
        ("aten._trilinear", Function(lambda x, layer: layer(x, x), nn.Bilinear(16, 16, 2))),
        ("aten.mkldnn_rnn_layer", Function(lambda x, layer: layer(x[0])[0], nn.LSTM(16, 4))),
        ("compress_tests.mixed", Function(mixed)),
    ],
)
def test_an_unknown_operator_is_reported_beside_the_counted_ones(name: str, network: nn.Module) -> None:
    before = nn.Conv2d(3, 3, 1, bias=False)
    counted = count(nn.Sequential(before, network), 16)
    assert set(counted.uncounted) == {name}
    assert counted.layers == {"0": 16 * 16 * 9} and counted.macs == 16 * 16 * 9
    with pytest.warns(CompressWarning, match=name):
        macs(nn.Sequential(before, network), 16)
    with pytest.warns(CompressWarning, match=name):
        training_macs(nn.Sequential(before, network), 16)


def test_a_network_of_known_operators_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        macs(Small(), 16)
        training_macs(Small(), 16)


def test_products_with_vectors_are_counted() -> None:
    network = Function(lambda x: (x[0, 0] @ x[0, 0, 0]) + x[0, 0, 0] @ x[0, 0, 1])
    assert count(network, 16).operators == {"aten.mv": 256, "aten.dot": 16}


def test_convolutions_of_every_kind_are_counted() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, groups=3, stride=2),  # to 7 x 7
        nn.Conv2d(6, 4, 3, dilation=2, padding=1),  # to 5 x 5
        nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2),  # every pixel of 5 x 5 becomes four
    )
    assert layer_macs(network, 16) == {"0": 49 * 6 * 9, "1": 25 * 4 * 54, "2": 25 * 4 * 3 * 4}


def test_composite_operators_are_decomposed_in_inference_mode() -> None:
    model = timm.create_model("test_vit")
    with torch.inference_mode():
        inside = count(timm.create_model("test_vit"), 160)
    assert inside == count(model, 160) and not inside.uncounted


def trained() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(32, 4),
    )  # fmt: skip


def test_pruned_and_quantized_networks_are_counted_from_their_own_shapes() -> None:
    pruned = prune_channels(trained(), 16, Channels(target_macs=0.6, round_to=4))
    first, second = pruned[0].out_channels, pruned[3].out_channels
    assert first < 16 or second < 32
    expected = 14 * 14 * first * 27 + 12 * 12 * second * first * 9 + second * 4
    assert macs(pruned, 16) == expected
    graph = quantize(pruned, [torch.randn(8, 3, 16, 16)], torch.zeros(2, 3, 16, 16)).network
    assert macs(graph, 16) == expected


@cache
def lowered() -> nn.Module:
    """Integer kernels for x86, which the counter has no formulas for: their weights are packed."""
    from torchao.quantization.pt2e.lowering import lower_pt2e_quantized_to_x86

    graph = quantize(trained(), [torch.randn(8, 3, 16, 16)], torch.zeros(2, 3, 16, 16)).network
    return lower_pt2e_quantized_to_x86(graph, (torch.zeros(1, 3, 16, 16),))


def dynamic() -> nn.Module:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 64))
    quantize_(network, Int8DynamicActivationInt8WeightConfig())
    return network


@pytest.mark.parametrize(
    "make, named",
    [
        (lowered, r"onednn\.qconv_pointwise \(2 calls\), onednn\.qlinear_pointwise \(1 call\)"),
        (dynamic, r"aten\._int_mm \(1 call\)"),
    ],
)
@pytest.mark.parametrize("counting", [count, layer_macs, macs, training_macs])
def test_an_integer_network_is_refused_with_the_names_of_its_operators(
    make: Callable[[], nn.Module], named: str, counting: Callable[..., object]
) -> None:
    with pytest.raises(CompressError, match=named):
        counting(make(), 16)


def test_frozen_torchscript_is_refused() -> None:
    fast = fuse_layers(Small().eval(), 16)
    assert isinstance(fast, torch.jit.ScriptModule)
    with pytest.raises(CompressError, match="frozen TorchScript"):
        macs(fast, 16)


def test_an_exported_network_is_counted() -> None:
    exported = torch.export.export(Small().eval(), (torch.zeros(1, 3, 16, 16),)).module()
    assert macs(exported, 16) == FIRST + DEPTHWISE + HEAD


@pytest.mark.parametrize("name", ["levit_128s", "tiny_vit_5m_224"])
@pytest.mark.parametrize("training", [True, False])
def test_counting_leaves_a_network_that_can_be_copied(name: str, training: bool) -> None:
    """They cache attention biases in eval mode, with their graph if there is one."""
    model = timm.create_model(name, num_classes=3).train(training)
    training_macs(model, 224)
    copy.deepcopy(model)
    assert all(module.training == training for module in model.modules())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["levit_128s", "tiny_vit_5m_224", "efficientformer_l1"])
def test_a_network_with_caches_can_be_copied_after_it_was_counted(name: str, training: bool) -> None:
    model = create_model("timm", name, 4, 224).train(training)
    assert training_macs(model, 224) > 2 * macs(model, 224)
    copied = make_ema(model, 0.9).module
    assert all(module.training == training for module in model.modules())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), copied.parameters(), strict=True))
