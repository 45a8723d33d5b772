"""Accuracy on corrupted images: mean corruption error, and losses beyond that on the images as they are.

The mean corruption error of a network is the mean over the corruptions of its errors at all severities, relative to
those of a reference (Hendrycks and Dietterich 2019, arXiv 1903.12261, whose reference is AlexNet). Its interval is of
the images, by the delta method.

A variant that is less accurate anyway is less accurate on corrupted images too. A corruption is shown to hurt where the
loss on its images, as a mean over the severities, is beyond the loss on the same images without it: the mean of that
difference over the images is above 0 at 5%, after Holm's correction for all corruptions of all files.
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
        p_adjusted: p-value of `beyond` being 0 where it is above, after Holm's correction; else 1.
        shown: Whether the corruption is shown to hurt the variant more than the reference.
    """

    loss: float
    beyond: Estimate
    p_adjusted: float
    shown: bool


def excess_losses(reference: Corrupted, files: Sequence[Corrupted]) -> list[dict[str, Excess]]:
    """Compare the losses of files under each corruption with their loss on the same images without it.

    All corruptions of all files are tested together; those of files with equal predictions count once.
    """
    found = [_beyond_clean(reference, file) for file in files]
    tested = list(dict.fromkeys((name, beyond) for losses in found for name, (_, beyond) in losses.items()))
    adjusted = dict(zip(tested, holm([each.p_above_zero for _, each in tested]), strict=True))
    enough = len(reference.clean) >= MIN_IMAGES
    return [
        {
            name: Excess(loss, beyond, adjusted[name, beyond], enough and adjusted[name, beyond] <= LEVEL)
            for name, (loss, beyond) in losses.items()
        }
        for losses in found
    ]


def _beyond_clean(reference: Corrupted, variant: Corrupted) -> dict[str, tuple[float, Estimate]]:
    """Return the loss under each corruption, and the estimate of what of it is beyond the loss without."""
    clean = reference.clean.astype(np.float64) - variant.clean
    losses = {name: (rows.astype(np.float64) - variant.rows[name]).mean(0) for name, rows in reference.rows.items()}
    return {name: (float(loss.mean()), mean_of(loss - clean)) for name, loss in losses.items()}


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
