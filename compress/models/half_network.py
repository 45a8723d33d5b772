"""A network in half precision throughout, whose images and logits stay float32."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class HalfNetwork(nn.Module):
    """Casts images, runs a network in half precision, and casts its logits back.

    Args:
        network: The float network, which is copied.
        precision: `fp16` or `bf16`.
    """

    def __init__(self, network: nn.Module, precision: str) -> None:
        super().__init__()
        self.dtype = TYPES[precision]
        self.network = copy.deepcopy(network).to(self.dtype)
        self.train(network.training)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits `[b, classes]` of images `[b, 3, r, r]`, both float32."""
        logits: Tensor = self.network(images.to(self.dtype))
        return logits.float()
