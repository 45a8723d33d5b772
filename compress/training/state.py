"""The state of a fit that its checkpoint keeps, and the error of one that diverges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

from torch import Tensor

from compress.utils.errors import CompressError


class EpochPoint(TypedDict):
    """MACs spent until the end of an epoch, and the accuracy then; on one device with a bit per validation image."""

    macs: float
    top1: float
    right: NotRequired[str]


class DivergedEpoch(TypedDict):
    """An epoch in which a fit diverged, and its loss then, as text: JSON has no NaN."""

    epoch: int
    loss: str


@dataclass
class FitState:
    """Additions to Lightning's checkpoint of a fit: plain values and tensors.

    Attributes:
        curve: One point per epoch.
        best: Weights of the epoch with the best accuracy, if one is selected.
        first_loss: Loss of the first step.
        diverged: Each time that the fit went back to its last good state.
    """

    curve: list[EpochPoint] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    first_loss: float | None = None
    diverged: list[DivergedEpoch] = field(default_factory=list)


class Diverged(CompressError):
    """Raised when the training loss is NaN, inf or has exploded.

    Args:
        loss: The loss.
        epoch: Number of the epoch, from 1.
        at_once: In the epoch's first step, so the state after the epoch before is not good either.
    """

    def __init__(self, loss: float, epoch: int, at_once: bool) -> None:
        self.loss, self.epoch, self.at_once = loss, epoch, at_once
        super().__init__(f"the loss is {loss:.3g} in epoch {epoch}")
