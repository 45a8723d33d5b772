"""Optimizers, learning rate schedules and the moving average of weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from compress.recipe.fit import Fit

DIVERGENCE_LR_FACTOR = 0.5
"""Factor of the learning rate each time that a fit has diverged and goes back to its last good epoch."""


def make_optimizer(parameters: Iterable[nn.Parameter], settings: Fit, fused: bool) -> torch.optim.Optimizer:
    """Create the optimizer of the settings, without weight decay for biases and normalization."""
    trained = {id(p): p for p in parameters if p.requires_grad}.values()
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, settings.lr, momentum=0.9, nesterov=True)
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, settings.lr, fused=fused)  # 3.5x faster steps on a CPU


def lr_factor(settings: Fit, steps: int) -> Callable[[int], float]:
    """Return the factor of the peak learning rate by step: a linear warm-up, then a cosine to 0 or a constant."""
    warmup = round(settings.warmup * steps)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if settings.schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return factor


def make_ema(network: nn.Module, decay: float) -> AveragedModel:
    """Create the moving average of a network's weights.

    Its decay rises to `decay` in the first steps, as early weights are worth little.
    """

    @torch.no_grad()
    def average(averages: Any, currents: Any, count: Any) -> None:
        now = min(decay, (1 + int(count)) / (10 + int(count)))
        for mean, current in zip(averages, currents, strict=True):
            mean.copy_(current.lerp(mean, now) if mean.is_floating_point() else current)

    return AveragedModel(network, multi_avg_fn=average, use_buffers=True).requires_grad_(False)
