"""Families of networks through the chain: build, prune, quantize to INT8, export to ONNX, run."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from compress.deployment.export import export
from compress.deployment.preprocess_file import PreprocessFile
from compress.deployment.runtimes import find_runtime
from compress.measurement.compute import macs
from compress.models.factory import create_model
from compress.models.heads import check_output, classifiers
from compress.pruning.search import prune_channels
from compress.quantization.ptq import quantize
from compress.recipe.channels import Channels
from compress.utils.errors import CompressError

REFUSED = "cannot be pruned by torch-pruning"
FAST = [
    ("timm", "resnet10t", 32, True),
    ("timm", "cifar_resnet8", 32, True),
]
SLOW = [
    ("timm", "resnetv2_18", 32, True),
    ("torchvision", "squeezenet1_1", 64, True),
    ("timm", "mobilenetv3_small_050", 32, True),
    ("timm", "levit_128s", 64, True),
    ("timm", "efficientnet_lite0", 32, True),
    ("timm", "convnext_atto", 32, True),
    ("timm", "vit_tiny_patch16_224", 64, True),
    ("timm", "dla34", 32, True),
    ("timm", "regnety_002", 32, True),
    ("timm", "ghostnet_050", 32, True),
    ("timm", "cifar_mobilenetv2", 32, True),
    ("timm", "cifar_shufflenetv2", 32, False),
    ("torchvision", "densenet121", 32, True),
    ("torchvision", "googlenet", 32, True),
    ("torchvision", "mnasnet0_5", 32, True),
    ("torchvision", "shufflenet_v2_x0_5", 32, False),
]


@pytest.mark.parametrize(
    ("library", "name", "side", "prunable"), [*FAST, *(pytest.param(*row, marks=pytest.mark.slow) for row in SLOW)]
)
def test_a_family_goes_through_the_chain(library: str, name: str, side: int, prunable: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model(library, name, 5, side)
    check_output(model, name, 5, side)
    settings = Channels(target_macs=0.6, round_to=4)
    if prunable:
        dense, model = model, prune_channels(model, side, settings)
        assert macs(model, side) <= 0.6 * macs(dense, side)
        assert [layer.weight.shape[0] for layer in classifiers(model).values()] == [5] * len(classifiers(dense))
    else:
        with pytest.raises(CompressError, match=f"^{re.escape(type(model).__name__)} {REFUSED}: [^\n]+$"):
            prune_channels(model, side, settings)
    images = torch.randn(16, 3, side, side, generator=torch.Generator().manual_seed(1))
    quantized = quantize(model.eval(), [images], images[:2], method="onnxruntime").network
    files = export(quantized, tmp_path, ["onnxruntime"], PreprocessFile(resolution=side))
    logits = find_runtime("onnxruntime").load(files["onnxruntime"], 1)(images.numpy())
    with torch.no_grad():
        expected = model(images)
    assert logits.shape == (16, 5)
    assert np.abs(logits - expected.numpy()).max() < 0.6 * float(
        expected.abs().max()
    )  # random weights; a ViT's are hardest to quantize
