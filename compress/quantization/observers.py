"""Observers of activation ranges, beside torchao's histogram."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchao.quantization.pt2e import MinMaxObserver

EPS = 2**-12  # smallest scale, as in torchao's x86 quantizer

MAX_VALUES = 2**20  # largest number of values of a batch, drawn at random, of which a percentile is computed


class PercentileObserver(MinMaxObserver):
    """Observes the widest range of any batch that covers `percentile` percent of its values, in the middle."""

    def __init__(self, percentile: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.outside = (1 - percentile / 100) / 2

    def forward(self, x_orig: Tensor) -> Tensor:
        """Observe an activation of any shape, and return it unchanged."""
        values = x_orig.detach().float().flatten()
        if len(values) > MAX_VALUES:  # at random: a fixed step would always meet the same channels
            drawn = torch.randint(len(values), (MAX_VALUES,), generator=torch.Generator().manual_seed(0))
            values = values[drawn.to(values.device)]
        if len(values):
            ends = torch.quantile(values, torch.tensor([self.outside, 1 - self.outside], device=values.device))
            super().forward(ends.to(self.min_val.dtype))
        return x_orig


def min_max() -> Any:
    """Return the constructor of min-max observers."""
    return MinMaxObserver.with_args(eps=EPS)


def percentile(share: float) -> Any:
    """Return the constructor of percentile observers."""
    return PercentileObserver.with_args(percentile=share, eps=EPS)
