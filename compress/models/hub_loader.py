"""Rebuild a published network from `config.json` and `model.safetensors`: imports only its library and torch.

Copied as `load_model.py` into repositories of networks that their library alone does not build: pruned ones,
torchvision's and OpenCLIP's. Usage there:

    from load_model import load_model, load_transform
    model, transform = load_model(), load_transform()
    logits = model(transform(image).unsqueeze(0))
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

HERE = Path(__file__).parent
Size = int | list[int]  # one size of a layer, such as its `out_channels`, or a `normalized_shape` of several dimensions


def load_model(folder: str | Path = HERE) -> nn.Module:
    """Build the network, pixels `[b, 3, r, r]` to logits `[b, classes]`, and load its weights; in eval mode."""
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    weights = load_file(Path(folder) / "model.safetensors")
    model = BUILDERS[config["library"]](config["network"], config["num_classes"])
    resize(model, config["sizes"], weights)
    state = OrderedDict(weights)
    # versions of layers, which the file has no place for
    state._metadata = model.state_dict()._metadata  # type: ignore[attr-defined]
    model.load_state_dict(state)
    return model.eval()


def load_transform(folder: str | Path = HERE) -> Any:
    """Return the transform of evaluation, PIL images to pixels `[3, r, r]`."""
    from timm.data import create_transform, resolve_data_config

    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    return create_transform(**resolve_data_config(pretrained_cfg=config["pretrained_cfg"]), is_training=False)


def resize(model: nn.Module, sizes: Mapping[str, Mapping[str, Size]], weights: Mapping[str, Tensor]) -> None:
    """Set the layers of `model` to the recorded `sizes`, and its parameters and buffers to the shapes of `weights`."""
    for name, changed in sizes.items():
        module = model.get_submodule(name)
        for attribute, value in changed.items():
            setattr(module, attribute, value if isinstance(value, int) else tuple(value))
        if "head_dim" in changed:
            module.scale = module.head_dim**-0.5  # type: ignore[operator]
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        for table in (module._parameters, module._buffers):
            for key, value in table.items():
                stored = weights.get(prefix + key)
                if value is None or stored is None or value.shape == stored.shape:
                    continue
                empty = torch.empty(stored.shape, dtype=value.dtype)
                table[key] = nn.Parameter(empty) if table is module._parameters else empty


def _timm(network: Mapping[str, Any], classes: int) -> nn.Module:
    import timm

    if network["model"].startswith("cifar_"):  # registered with timm by compress-model
        import compress.models.cifar_mobilenets
        import compress.models.cifar_resnets  # noqa: F401
    return timm.create_model(network["model"], num_classes=classes, **network["arguments"])  # type: ignore[no-any-return]


def _torchvision(network: Mapping[str, Any], classes: int) -> nn.Module:
    from torchvision import models

    return models.get_model(network["model"], weights=None, num_classes=classes, **network["arguments"])  # type: ignore[no-any-return]


def _open_clip(network: Mapping[str, Any], classes: int) -> nn.Module:
    from open_clip.model import _build_vision_tower

    width = network["embed_dim"]
    visual = _build_vision_tower(width, network["vision_cfg"], network["quick_gelu"])
    return ClipClassifier(ImageTower(visual), nn.Linear(width, classes))


BUILDERS = {"timm": _timm, "torchvision": _torchvision, "open_clip": _open_clip}


class ImageTower(nn.Module):
    """The image tower of an OpenCLIP model; its embeddings have length 1."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, images: Tensor) -> Tensor:
        output = self.visual(images)  # CoCa's tower gives the embedding and its tokens
        return F.normalize(output if isinstance(output, Tensor) else output[0], dim=-1)


class ClipClassifier(nn.Module):
    """Images `[b, 3, r, r]` to logits `[b, classes]`: the tower's embeddings, times the head."""

    def __init__(self, tower: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.tower, self.head = tower, head

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.tower(images))  # type: ignore[no-any-return]
