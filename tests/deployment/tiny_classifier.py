"""A tiny classifier and its images."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

ONNX_RUNTIMES = ["onnxruntime", "openvino"]  # what is always there when the tests are
CONVOLUTIONS, LINEAR = 16 * 16 * 16 * 27 + 8 * 8 * 16 * 144, 16 * 5
"""MACs of the tiny classifier: outputs times products of each."""

PREPROCESS: dict[str, Any] = {
    "resolution": 16,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "interpolation": "bilinear",
    "classes": ["cat", "dog", "größe", "ship", "truck"],
}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    ).eval()


def images(count: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
