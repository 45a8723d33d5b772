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
    """Additions to Lightning's checkpoint of a fit: plain values and tensors."""

    curve: list[EpochPoint] = field(default_factory=list)  # one point per epoch
    # weights of the epoch with the best accuracy, if one is selected
    best: dict[str, Tensor] = field(default_factory=dict)
    first_loss: float | None = None  # loss of the first step
    # each time that the fit went back to its last good state
    diverged: list[DivergedEpoch] = field(default_factory=list)


class Diverged(CompressError):
    """Raised when the training loss is NaN, inf or has exploded, `at_once` in the first step of an epoch."""

    def __init__(self, loss: float, epoch: int, at_once: bool) -> None:
        self.loss, self.epoch, self.at_once = loss, epoch, at_once
        super().__init__(f"the loss is {loss:.3g} in epoch {epoch}")
