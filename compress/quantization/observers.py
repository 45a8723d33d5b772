"""What finds the range of an activation on calibration images, beside torchao's histogram."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchao.quantization.pt2e import MinMaxObserver

EPS = 2**-12
"""Smallest scale, as torchao's x86 quantizer has it."""

MAX_VALUES = 2**20
"""Values of a batch that a percentile is taken of, evenly spread; `torch.quantile` takes 16 times as many."""


class PercentileObserver(MinMaxObserver):
    """The widest of the batches' ranges without the outermost values.

    Args:
        percentile: Share of the values, in percent, that a batch's range holds, as much being cut off on both sides.
    """

    def __init__(self, percentile: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.outside = (1 - percentile / 100) / 2

    def forward(self, x_orig: Tensor) -> Tensor:
        """Look at an activation of any shape, and give it back as it is."""
        values = x_orig.detach().float().flatten()
        values = values[:: max(1, len(values) // MAX_VALUES)]
        if len(values):
            ends = torch.quantile(values, torch.tensor([self.outside, 1 - self.outside], device=values.device))
            super().forward(ends.to(self.min_val.dtype))
        return x_orig


def min_max() -> Any:
    """Constructor of observers of the extremes."""
    return MinMaxObserver.with_args(eps=EPS)


def percentile(share: float) -> Any:
    """Constructor of observers of a percentile."""
    return PercentileObserver.with_args(percentile=share, eps=EPS)
