"""Network targets of `fuzz_campaign.py`: weights, variants of the store, artifacts."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from hostile_inputs import CANARY, Finding, changed, damaged, hostile_pickle, hostile_safetensors


def checkpoint(rng: Random, folder: Path) -> None:
    """Load weights and variants: pickles with code, false headers, malformed architectures."""
    import torch
    from safetensors.torch import save

    from compress.models.checkpoints import load_variant
    from compress.models.weights_file import read_checkpoint

    name = rng.choice(("it.pth", "it.safetensors", "model.safetensors"))
    weights = {"fc.weight": torch.zeros(3, 4), "fc.bias": torch.zeros(3)}
    match rng.randrange(5):
        case 0:
            data = hostile_pickle(rng, folder / CANARY)
        case 1:
            out = io.BytesIO()
            torch.save({"state_dict": weights}, out, _use_new_zipfile_serialization=rng.random() < 0.7)
            data = damaged(out.getvalue(), rng)
        case 2:
            data = hostile_safetensors(rng, {name: list(value.shape) for name, value in weights.items()})
        case 3:
            data = damaged(save(weights), rng)
        case _:
            data, name = save(_network()), "model.safetensors"
    (folder / name).write_bytes(data)
    if name == "model.safetensors":
        about = {"library": "timm", "model": "test_resnet", "options": {}, "classes": ["a", "b"], "resolution": 32}
        about |= {"sizes": {"fc": {"out_features": 2}}, "quantization": None}
        text = json.dumps(changed(about, rng, rng.choice((0, 1, 1, 3)))).encode()
        (folder / "architecture.json").write_bytes(damaged(text, rng) if rng.random() < 0.2 else text)
        load_variant(folder)
    read_checkpoint(folder / name)


@cache
def _network() -> dict[str, Any]:
    from compress.models.factory import create_model

    return create_model("timm", "test_resnet", 2, 32).state_dict()


def artifact(rng: Random, folder: Path) -> None:
    """Load an artifact with a hostile `preprocess.json` or ONNX file, and write its Triton model."""
    from compress.deployment.artifact import load_artifact
    from compress.deployment.preprocess_file import read_inputs
    from compress.deployment.triton import write_triton

    about = {"resolution": 8, "mean": [0.5] * 3, "std": [0.2] * 3, "interpolation": "bicubic", "classes": ["a", "b"]}
    whole = changed(about, rng, rng.choice((0, 0, 1, 2)))
    text = json.dumps(whole).encode()
    (folder / "preprocess.json").write_bytes(damaged(text, rng) if rng.random() < 0.2 else text)
    model = _onnx()
    (folder / "model.onnx").write_bytes(damaged(model, rng) if rng.random() < 0.5 else model)
    inputs, classes = read_inputs(folder)
    if isinstance(whole, dict) and rng.random() < 0.3:
        write_triton(
            {"onnxruntime": folder / "model.onnx"}, folder / "triton" / "it", {**about, "classes": list(classes)}
        )
        lines = (folder / "triton" / "it" / "labels.txt").read_text(encoding="utf-8").split("\n")
        if len(lines) != len(classes) + 1:
            raise Finding(f"{len(classes)} classes became {len(lines) - 1} lines of labels")
    if inputs.resolution <= 512:  # a larger one is what the recipe asks for, and may take long
        load_artifact(folder / "model.onnx", threads=1)


def _onnx() -> bytes:
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, "h", "w"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor("w", TensorProto.FLOAT, [3, 2], [0.1] * 6)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()
