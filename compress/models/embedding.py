"""Embedding students: an encoder that ends in the teacher's embedding space, and a frozen head of text embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compress.models.class_list import Array, ClassList
from compress.models.hub_loader import ImageTower


class Encoder(ImageTower):
    """Images `[b, 3, r, r]` to embeddings `[b, width]` of length 1: a timm or torchvision network, normalised."""

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """The names of its last layers, as timm states them."""
        named = (getattr(self.visual, "pretrained_cfg", None) or {}).get("classifier") or ()
        names = (named,) if isinstance(named, str) else named
        return {"classifier": tuple(f"visual.{name}" for name in names)}


class EmbeddingNetwork(nn.Module):
    """Images `[b, 3, r, r]` to logits `[b, classes]`: embeddings of `encoder`, times the text embeddings of classes.

    The head is frozen. `encoder` is what is compressed and exported, in float or quantized.
    """

    def __init__(self, encoder: nn.Module, classes: ClassList) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(classes.width, len(classes.names))
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(np.array(classes.weight)))
            self.head.bias.copy_(torch.from_numpy(np.array(classes.bias)))
        self.head.requires_grad_(False)
        self._classes = classes

    def forward(self, images: Tensor) -> Tensor:
        embeddings = self.encoder(images)
        with torch.autocast(embeddings.device.type, enabled=False):  # logits of CLIP are too large for half precision
            return self.head(embeddings.float())  # type: ignore[no-any-return]

    @property
    def classes(self) -> ClassList:
        """The head as it is now."""
        weight, bias = (value.detach().cpu().numpy() for value in (self.head.weight, self.head.bias))
        return replace(self._classes, weight=weight, bias=bias)


def encoder_of(model: nn.Module) -> nn.Module:
    """Return what of a network is compressed and exported: the encoder of an embedding student, all of others."""
    return model.encoder if isinstance(model, EmbeddingNetwork) else model


def with_encoder(model: nn.Module, encoder: nn.Module) -> nn.Module:
    """Return `encoder` with the head of `model`, if that is an embedding student."""
    return EmbeddingNetwork(encoder, model.classes) if isinstance(model, EmbeddingNetwork) else encoder


def logits_of(model: nn.Module, outputs: Array) -> Array:
    """Return logits `[b, classes]` of a network, given the outputs of what `encoder_of` returns of it."""
    return model.classes.logits(outputs) if isinstance(model, EmbeddingNetwork) else outputs


def library_name(model: nn.Module, name: str) -> str:
    """Return the name that a layer or parameter of `model` has in its library, without what embedding students add.

    It is empty for the modules that they add around the library's network.
    """
    added = ("encoder", "visual") if isinstance(model, EmbeddingNetwork) else ("visual",)
    if isinstance(model, EmbeddingNetwork | Encoder):
        for prefix in added:
            if name.partition(".")[0] == prefix:
                name = name.partition(".")[2]
    return name


def class_list_of(head: nn.Module, names: Sequence[str], words: Sequence[str], templates: Sequence[str]) -> ClassList:
    """Return a teacher's zero-shot head as the class list of its students."""
    assert isinstance(head, nn.Linear)
    weight, bias = (value.detach().cpu().numpy() for value in (head.weight, head.bias))
    return ClassList(tuple(names), weight, bias, tuple(words), tuple(templates))
