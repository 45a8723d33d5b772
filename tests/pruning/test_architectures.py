"""Every kind of network that the README names is pruned, stored as text and weights, and rebuilt."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compress.data.preprocess import Preprocess
from compress.measurement.compute import macs
from compress.models.architecture import Architecture, Network
from compress.models.checkpoints import changed_sizes, load_variant, save_variant
from compress.models.factory import create_model
from compress.pruning.search import prune_channels
from compress.recipe.channels import Channels
from compress.utils.errors import CompressError

FAST = [
    ("timm", "resnet18"),
    ("timm", "mobilenetv2_035"),
    ("timm", "mobilenetv3_small_050"),
    ("timm", "vit_tiny_patch16_224"),
]
SLOW = [
    ("timm", "efficientnet_lite0"),
    ("timm", "convnext_atto"),
    ("timm", "regnety_002"),
    ("torchvision", "mobilenet_v3_small"),
    ("timm", "resnet34"),
    ("timm", "resnet50"),
    ("timm", "vgg11_bn"),
    ("timm", "efficientnet_b0"),
    ("timm", "regnetx_002"),
    ("torchvision", "resnet50"),
    ("torchvision", "vgg11_bn"),
    ("torchvision", "mobilenet_v2"),
    ("torchvision", "efficientnet_b0"),
    ("torchvision", "convnext_tiny"),
    ("torchvision", "regnet_y_400mf"),
]


@pytest.mark.parametrize(("library", "name"), [*FAST, *(pytest.param(*m, marks=pytest.mark.slow) for m in SLOW)])
def test_an_architecture_is_pruned_stored_and_rebuilt(library: str, name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model(library, name, 10, 64).eval()
    pruned = prune_channels(model, 64, Channels(target_macs=0.6, round_to=4))
    assert 0.4 <= macs(pruned, 64) / macs(model, 64) <= 0.6
    sizes = changed_sizes(pruned, model)
    architecture = Architecture(
        library=library,
        model=name,
        classes=tuple(str(n) for n in range(10)),
        resolution=64,
        preprocess=Preprocess(64, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        sizes=sizes,
    )
    save_variant(tmp_path, Network(pruned, architecture))
    rebuilt = load_variant(tmp_path).model
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(rebuilt(images), pruned(images))
    assert changed_sizes(rebuilt, model) == sizes


def test_a_network_that_cannot_be_traced_is_refused_in_one_line() -> None:
    model = create_model("timm", "cs3darknet_s", 10, 64)
    with pytest.raises(CompressError, match=r"^CspNet cannot be pruned by torch-pruning: [^\n]+$"):
        prune_channels(model, 64, Channels(target_macs=0.5))
