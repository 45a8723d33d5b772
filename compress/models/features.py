"""The features of a classifier: what its last layer maps to logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compress.models.heads import classifiers
from compress.utils.errors import CompressError


class FeatureTower(nn.Module):
    """A classifier without its last layer: images `[b, 3, r, r]` to features `[b, width]`, in eval mode.

    The layer is taken out of `model` itself; `with_head` gives it another one.

    Raises:
        CompressError: there is no such layer, or it does not map one vector per image to logits.
    """

    def __init__(self, model: nn.Module, resolution: int) -> None:
        super().__init__()
        (self.path, layer), *others = classifiers(model, resolution).items()
        if others:
            raise _not_last(model, self.path)
        self.layer = [layer]  # in a list: not a part of this module
        self.resolution = resolution
        model.set_submodule(self.path, nn.Identity())
        self.model = model.eval()
        with torch.no_grad():
            shape = self(torch.zeros(1, 3, resolution, resolution)).shape
        if shape[1] != self.width:
            raise _not_last(model, self.path)

    @property
    def width(self) -> int:
        return int(self.layer[0].weight.shape[1])

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.model(images)
        return features.flatten(1)

    @torch.no_grad()
    def with_head(self, head: nn.Linear) -> nn.Module:
        """Return the classifier with a linear head, features `[b, width]` to logits `[b, classes]`, for last layer.

        Raises:
            CompressError: the model does more with the outputs of its last layer than to return them.
        """
        images = torch.rand(2, 3, self.resolution, self.resolution, generator=torch.Generator().manual_seed(0))
        expected = head(self(images))
        layer: nn.Module = head
        if isinstance(self.layer[0], nn.Conv2d):
            layer = nn.Conv2d(self.width, len(head.weight), 1)
            layer.load_state_dict({"weight": head.weight[:, :, None, None], "bias": head.bias})
        self.model.set_submodule(self.path, layer)
        if not torch.allclose(self.model(images), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())):
            raise _not_last(self.model, self.path)
        return self.model


def _not_last(model: nn.Module, path: str) -> CompressError:
    return CompressError(
        f"`head: probe`: the last layer of {type(model).__name__}, {path}, does not map one vector per image to the "
        "logits; choose another model, or train its head"
    )
