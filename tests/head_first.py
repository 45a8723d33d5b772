"""A network that registers its classifier before the layers that are computed before it."""

from __future__ import annotations

import torch
from torch import nn


class HeadFirst(nn.Module):
    """Images to 5 logits; `after` is applied to these."""

    def __init__(self, *after: nn.Module) -> None:
        super().__init__()
        self.head, self.trunk, self.after = nn.Linear(6, 5), nn.Conv2d(3, 6, 3), nn.Sequential(*after)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.after(self.head(self.trunk(images).mean((2, 3))))  # type: ignore[no-any-return]
