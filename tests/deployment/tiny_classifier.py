"""A tiny classifier and its images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper
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


def one_operator(folder: Path, operator: str, given: dict[str, list[int]] | None = None, **attributes: int) -> Path:
    """An ONNX artifact of one operator, with integers that it is given beside the images."""
    constants = [helper.make_tensor(name, TensorProto.INT64, [len(row)], row) for name, row in (given or {}).items()]
    node = helper.make_node(operator, ["images", *(given or {})], ["logits"], **attributes)
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 16, 16])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], operator, [images], [logits], constants)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder / "model.onnx"
    )
    (folder / "preprocess.json").write_text(json.dumps(PREPROCESS))
    return folder / "model.onnx"


def images(count: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
