"""Networks that are built for images of one size, and position embeddings for another size."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from torch import Tensor, nn

from compress.models.catalog import catalog
from compress.models.heads import classifiers
from compress.models.names import split_name, timm_config, torchvision_weights

TORCHVISION_SIZES = {"vit_": "image_size", "maxvit_": "input_size"}
"""Beginnings of the names of torchvision's models of a fixed size, and the builder's argument that has it."""


def fixed_side(library: str, name: str) -> int | None:
    """Return the side of the images that published weights are for, for a network of a fixed size; else None."""
    if library == "timm":
        cfg = timm_config(name) or {}
        return int(cfg["input_size"][-1]) if cfg.get("fixed_input_size") else None
    known = catalog(library)
    assert known
    if size_argument(split_name(library, name, known).model) is None:
        return None
    weights = torchvision_weights(name)
    return int(weights.meta["min_size"][0]) if weights else None


def size_argument(model: str) -> str | None:
    """Return the argument of torchvision's builder that has the side of the images; None if the model has no such."""
    return next((argument for start, argument in TORCHVISION_SIZES.items() if model.startswith(start)), None)


def resample_positions(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Resample the position embeddings of `weights` to the image size of `model`, as its library does.

    Weights without position embeddings, or of the same size, stay as they are.
    """
    if not differing_tensors(model, weights):
        return dict(weights)
    if "encoder.pos_embedding" in weights:
        from torchvision.models.vision_transformer import interpolate_embeddings

        return dict(interpolate_embeddings(model.image_size, model.patch_size, dict(weights)))
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    return dict(convert(dict(weights), model)) if convert else dict(weights)


def differing_tensors(model: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """List the tensors of a model, without its classifiers, whose shapes differ from those of the weights."""
    own, heads = model.state_dict(), tuple(f"{name}." for name in classifiers(model))
    first = next(iter(own))
    prefix = next((name.removesuffix(first) for name in weights if name.endswith(first)), "")
    shapes = {name.removeprefix(prefix): value.shape for name, value in weights.items()}
    return [
        name
        for name, value in own.items()
        if name in shapes and shapes[name] != value.shape and not name.startswith(heads)
    ]
