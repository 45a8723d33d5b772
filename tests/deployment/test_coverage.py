"""The MACs of runtimes are those of the counter, whatever the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from deployment.tiny_classifier import ONNX_RUNTIMES, PREPROCESS
from torch import nn

from compress.deployment.coverage import Coverage
from compress.deployment.export import export
from compress.deployment.runtimes import find_runtime
from compress.measurement.compute import weight_macs
from compress.models.factory import create_model

SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("mobilenetv3_small_050", "vit_tiny_patch16_224")]


@pytest.mark.parametrize("name", ["resnet18", *SLOW])
def test_the_macs_are_those_that_the_counter_has(name: str, tmp_path: Path) -> None:
    model = create_model("timm", name, 5, 32).eval()
    built = export(model, tmp_path, ONNX_RUNTIMES, {**PREPROCESS, "resolution": 32})
    for runtime, path in built.items():
        found = find_runtime(runtime).coverage(path)
        assert (found.integer_macs, found.macs) == (0, weight_macs(model, 32)), runtime
        assert found.convs == sum(isinstance(module, nn.Conv2d) for module in model.modules())


def test_products_of_two_activations_are_no_linears() -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(12, 7)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images @ images.transpose(2, 3) @ self.linear(images).transpose(2, 3).mean(1, keepdim=True).mT

    assert weight_macs(Product(), 12) == 3 * 12 * 12 * 7


def test_a_share_is_unknown_where_a_part_is() -> None:
    assert Coverage(1, 2, 30, 40).share == 0.75 and Coverage(0, 2, 0, 40).share == 0
    assert Coverage(1, 2, None, 40).share is None and Coverage(1, 2, 30, None).share is None


@pytest.mark.parametrize("stored", [True, False])
def test_weights_are_told_from_activations_in_deep_networks(stored: bool) -> None:
    openvino = pytest.importorskip("openvino")
    from openvino import opset13 as op

    from compress.deployment.open_vino import _macs

    images = op.parameter([4, 4], np.float32)
    deep = op.constant(np.eye(4, dtype=np.float32)) if stored else images
    for _ in range(1200):  # deeper than Python's recursion goes, and each used twice
        deep = op.add(deep, deep)
    linear = op.matmul(images, deep, False, False)
    model = openvino.Model([op.result(linear)], [images])
    assert list(_macs(model).values()) == ([4 * 4 * 4] if stored else [])
