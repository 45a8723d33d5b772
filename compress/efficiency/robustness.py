"""Accuracy on corrupted images: mean corruption error, and losses beyond that on the images as they are.

The mean corruption error of a network is the mean over the corruptions of its errors at all severities, relative to
those of a reference (Hendrycks and Dietterich 2019, arXiv 1903.12261, whose reference is AlexNet). Its interval is of
the images, by the delta method.

A variant that is less accurate anyway is less accurate on corrupted images too. A corruption is shown to hurt where the
loss on its images, as a mean over the severities, is beyond the loss on the same images without it: the mean of that
difference over the images is above 0 at 5%, after Holm's correction for all corruptions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.efficiency.confidence import Estimate, mean_of
from compress.efficiency.intervals import MIN_IMAGES
from compress.efficiency.per_class import LEVEL, holm

Rows = NDArray[np.bool_]


@dataclass(frozen=True)
class Corrupted:
    """Whether predictions are correct.

    Attributes:
        clean: On the images as they are, `[images]`.
        rows: On corrupted ones by corruption, `[severities, images]`.
    """

    clean: Rows
    rows: Mapping[str, Rows]


@dataclass(frozen=True)
class Excess:
    """Loss of a variant under one corruption beyond its loss without, against a reference.

    Attributes:
        loss: Accuracy lost on the corrupted images, mean over the severities.
        beyond: Estimate of that less the accuracy lost on the images as they are.
        p_adjusted: p-value of `beyond` being 0 where it is above, after Holm's correction for all corruptions; else 1.
        shown: Whether the corruption is shown to hurt the variant more than the reference.
    """

    loss: float
    beyond: Estimate
    p_adjusted: float
    shown: bool


def excess_losses(reference: Corrupted, variant: Corrupted) -> dict[str, Excess]:
    """Compare the losses of a variant under each corruption with its loss on the same images without it."""
    clean = reference.clean.astype(np.float64) - variant.clean
    losses = {name: (rows.astype(np.float64) - variant.rows[name]).mean(0) for name, rows in reference.rows.items()}
    beyond = {name: mean_of(loss - clean) for name, loss in losses.items()}
    adjusted = holm([each.p_above_zero for each in beyond.values()])
    return {
        name: Excess(float(losses[name].mean()), estimate, p_value, p_value <= LEVEL and len(clean) >= MIN_IMAGES)
        for (name, estimate), p_value in zip(beyond.items(), adjusted, strict=True)
    }


def mean_corruption_error(reference: Corrupted, variant: Corrupted) -> Estimate | None:
    """Return the mean corruption error relative to a reference: 1 where a variant errs as often.

    None where the reference makes no error under one of the corruptions, or there are none.
    """
    ratios, influences = [], []
    for name, rows in reference.rows.items():
        base, own = (~rows).sum(0).astype(np.float64), (~variant.rows[name]).sum(0)
        if not base.any():
            return None
        ratios.append(float(own.mean() / base.mean()))
        influences.append((own - ratios[-1] * base) / base.mean())
    if not ratios:
        return None
    return Estimate(_mean(ratios), mean_of(np.mean(influences, axis=0)).error)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
