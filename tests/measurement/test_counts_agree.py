"""The counts of twenty networks against four others: torch's, fvcore's, torch-pruning's and torchvision's published."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import open_clip
import pytest
import timm
import torch
import torch_pruning
import torchvision
from fvcore.nn import FlopCountAnalysis
from open_clip.model import _build_vision_tower
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from compress.measurement.compute import Count, count

# (library, name, pixels a side): small where the architecture takes any size.
NETWORKS = (
    ("timm", "resnet18", 64),
    ("timm", "mobilenetv2_100", 64),
    ("timm", "mobilenetv3_large_100", 64),
    ("timm", "mobilenetv4_conv_small", 64),
    ("timm", "efficientnet_b0", 64),
    ("timm", "tf_efficientnetv2_b0", 64),
    ("timm", "convnext_tiny", 64),
    ("timm", "ghostnet_100", 64),
    ("timm", "mobilevit_s", 64),
    ("timm", "mixer_s32_224", 224),
    ("timm", "vit_tiny_patch16_224", 224),
    ("timm", "vit_base_patch16_224", 224),
    ("timm", "swin_tiny_patch4_window7_224", 224),
    ("torchvision", "resnet50", 64),
    ("torchvision", "mobilenet_v3_small", 64),
    ("torchvision", "shufflenet_v2_x1_0", 64),
    ("torchvision", "swin_v2_t", 64),
    ("torchvision", "vit_b_32", 224),
    ("open_clip", "ViT-B-32", 224),
    ("open_clip", "RN50", 224),
)
FAST = {"resnet18", "mobilenetv3_large_100", "ghostnet_100", "vit_tiny_patch16_224", "shufflenet_v2_x1_0"}
# fvcore also counts normalisation and pooling, as so many FLOPs an element. These are its products, one FLOP a MAC.
FVCORE_PRODUCTS = {"conv", "linear", "addmm", "mm", "bmm", "matmul", "einsum"}
# torch-pruning leaves out what a subclass of convolution or linear computes, and what a function in a module's forward
# does. These are the classes.
TORCH_PRUNING_LACKS = {
    "tf_efficientnetv2_b0": "Conv2dSame",
    "mobilenetv3_large_100": "Linear",  # timm's, the classifier
    "mobilenetv4_conv_small": "Linear",
    "ghostnet_100": "Linear",
    "swin_v2_t": "ShiftedWindowAttentionV2",
    "RN50": "AttentionPool2d",
}


@dataclass(frozen=True)
class Counted:
    name: str
    model: nn.Module
    images: torch.Tensor
    ours: Count

    @property
    def attention(self) -> int:
        """MACs of the products of queries with keys, and of the weights with values, where these are one operator."""
        return sum(number for operator, number in self.ours.operators.items() if "attention" in operator)


def build(library: str, name: str) -> nn.Module:
    if library == "timm":
        return timm.create_model(name)
    if library == "torchvision":
        return torchvision.models.get_model(name)
    settings = open_clip.get_model_config(name)
    return _build_vision_tower(settings["embed_dim"], settings["vision_cfg"])


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(network, id=network[1], marks=[] if network[1] in FAST else pytest.mark.slow)
        for network in NETWORKS
    ],
)
def counted(request: pytest.FixtureRequest) -> Counted:
    library, name, side = request.param
    model = build(library, name).eval()
    return Counted(name, model, torch.zeros(1, 3, side, side), count(model, side))


@pytest.fixture(autouse=True)
def no_fused_layers() -> Iterator[None]:
    """torch's counter takes a fused transformer layer for 0."""
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


def test_nothing_is_left_out(counted: Counted) -> None:
    assert counted.ours.uncounted == {}
    assert sum(counted.ours.operators.values()) == counted.ours.macs > 0


def test_torch_counts_the_same_by_operator_two_flops_a_mac(counted: Counted) -> None:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        counted.model(counted.images)
    theirs = {str(operator): flops for operator, flops in counter.get_flop_counts()["Global"].items()}
    assert theirs == {operator: 2 * number for operator, number in counted.ours.operators.items()}


def test_fvcore_counts_the_same_products_but_for_attention(counted: Counted) -> None:
    """fvcore does not know torch's attention operator; where a network writes attention as products, it does."""
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    analysis = FlopCountAnalysis(counted.model, counted.images).unsupported_ops_warnings(False)
    theirs = sum(number for name, number in analysis.by_operator().items() if name in FVCORE_PRODUCTS)
    assert theirs == counted.ours.macs - counted.attention
    unknown = analysis.unsupported_ops()["aten::scaled_dot_product_attention"]
    assert (unknown > 0) == (counted.attention > 0)


def test_torch_pruning_counts_the_same_and_a_few_steps_an_element(counted: Counted) -> None:
    """It counts one for every element of a bias, two for one that is normalised, and one for one that is pooled."""
    total, _ = torch_pruning.utils.count_ops_and_params(counted.model, counted.images)
    lacking = TORCH_PRUNING_LACKS.get(counted.name)
    modules, called = dict(counted.model.named_modules()), set[str]()
    for name, module in modules.items():
        module.register_forward_hook(lambda *_, name=name: called.add(name))
    with torch.no_grad():
        counted.model(counted.images)

    def is_lacking(name: str) -> bool:
        own = modules.get(name)
        if type(own).__name__ == lacking and type(own) is not nn.Linear:
            return True
        inside = any(type(modules[name[:end]]).__name__ == lacking for end, c in enumerate(name) if c == ".")
        return inside and name not in called  # a layer whose weight its parent multiplies by

    lacks = sum(number for name, number in counted.ours.layers.items() if is_lacking(name))
    assert (lacks > 0) == (lacking is not None)
    assert 1 <= (total + lacks) / counted.ours.macs < 1.06


def test_every_layer_has_a_kernel_s_weights_for_every_value_that_it_gives(counted: Counted) -> None:
    """By the shapes that pass through: 2 for each of them, FLOPs, would be caught here."""
    expected: dict[str, int] = {}

    names = {layer: name for name, layer in counted.model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}

    def add(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        expected[names[layer]] = expected.get(names[layer], 0) + output.numel() * layer.weight[0].numel()

    hooks = [layer.register_forward_hook(add) for layer in names]
    with torch.no_grad():
        counted.model(counted.images)
    for hook in hooks:
        hook.remove()
    assert expected and expected == {name: counted.ours.layers[name] for name in expected}
    if counted.name == "resnet18":
        assert expected == counted.ours.layers


@pytest.mark.parametrize(
    "name",
    [
        *("resnet18", "mobilenet_v3_large"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("mobilenet_v2", "efficientnet_b0", "convnext_tiny", "vit_b_16", "swin_t")
        ),
    ],
)
def test_torchvision_publishes_the_same(name: str) -> None:
    """Its "GFLOPS" are 10^9 MACs; those of ViT-B/16, 17.564, are with attention."""
    weights = next(iter(torchvision.models.get_model_weights(name)))
    ours = count(torchvision.models.get_model(name), 224)
    assert ours.macs / 1e9 == pytest.approx(weights.meta["_ops"], abs=0.0006)
    assert ours.uncounted == {}
