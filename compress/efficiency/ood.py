"""Out-of-distribution (OOD) detection: how well a score tells test images from images of none of the classes.

Scores are the maximum softmax probability p (Hendrycks and Gimpel 2017, arXiv 1610.02136), as log p / (1 - p), which
has the same order and does not end at 1 for all images that a network is sure of, and the negative free energy, the
logarithm of the sum of the exponentials of the logits (Liu et al. 2020, arXiv 2010.03759, at temperature 1). Both are
higher for an image that a network takes for one of its classes.

The AUROC is the probability that a test image has a higher score than an OOD image; equal scores count half. Its
interval is Newcombe's method 5 (Statistics in Medicine 25, 2006): a score interval, which is also right near 1. Two
networks are compared on the same images by the variance of DeLong, DeLong and Clarke-Pearson (Biometrics 44, 1988).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.efficiency.confidence import Ends, Estimate, Floats, Z

SCORES = ("softmax", "energy")
VERSION = 1  # of the scores; part of store keys
STEPS = 60  # halvings of the search for an end of an interval


def ood_scores(logits: NDArray[Any]) -> Floats:
    """Return the scores `[2, images]` of logits `[images, classes]` of two or more classes, in the order of `SCORES`.

    Raises:
        ValueError: a logit is not finite, and has no order among others.
    """
    values = np.sort(np.asarray(logits, np.float64), axis=1)
    if not np.isfinite(values).all():
        raise ValueError("logits are not finite")
    largest, others = values[:, -1], _log_sum_exp(values[:, :-1])
    return np.stack([largest - others, np.logaddexp(largest, others)])


def _log_sum_exp(values: Floats) -> Floats:
    """Return the logarithm of the sum of the exponentials `[rows]` of rows in rising order."""
    largest = values[:, -1]
    return np.asarray(largest + np.log(np.exp(values - largest[:, None]).sum(1)))


@dataclass(frozen=True)
class Placements:
    """Where each image stands among those of the other kind; the mean of either is the AUROC.

    Attributes:
        known: Share of the OOD images that a test image scores above, `[test images]`.
        ood: Share of the test images that score above an OOD image, `[OOD images]`.
    """

    known: Floats
    ood: Floats

    @property
    def auroc(self) -> float:
        return float(self.known.mean())

    @property
    def interval(self) -> Ends:
        """95% interval of the AUROC."""
        value, counts = self.auroc, (len(self.known), len(self.ood))
        low = _where_within(lambda end: value - end, value, 0.0, counts)
        high = _where_within(lambda end: end - value, value, 1.0, counts)
        return low, high


def placements(known: NDArray[Any], ood: NDArray[Any]) -> Placements:
    """Place the scores `[test images]` and `[OOD images]` among each other.

    Raises:
        ValueError: there are none of one kind.
    """
    if not len(known) or not len(ood):
        raise ValueError("an AUROC needs test images and OOD images")
    return Placements(_share_below(known, ood), 1 - _share_below(ood, known))


def auroc_loss(reference: Placements, variant: Placements) -> Estimate:
    """Estimate the AUROC that a variant loses against a reference on the same images."""
    known, ood = reference.known - variant.known, reference.ood - variant.ood
    return Estimate(reference.auroc - variant.auroc, float(np.sqrt(_variance(known) + _variance(ood))))


def _share_below(scores: NDArray[Any], others: NDArray[Any]) -> Floats:
    """Return the share of `others` below each score, equal ones counted half."""
    ordered = np.sort(others)
    below, not_above = (np.searchsorted(ordered, scores, side) for side in ("left", "right"))
    return (below + not_above) / (2 * len(others))


def _variance(values: Floats) -> float:
    """Return the variance of the mean."""
    return float(values.var(ddof=1) / len(values)) if len(values) > 1 else 0.0


def _where_within(distance: Callable[[float], float], value: float, far: float, counts: tuple[int, int]) -> float:
    """Return the AUROC farthest from `value` towards `far` that its own standard error would bring there."""
    near = value
    for _ in range(STEPS):
        middle = (near + far) / 2
        if distance(middle) <= Z * _error(middle, *counts):
            near = middle
        else:
            far = middle
    return near


def _error(auroc: float, known: int, ood: int) -> float:
    """Return the standard error of an AUROC: Hanley and McNeil 1982, with both counts less one set to their mean."""
    mean = (known + ood) / 2 - 1
    both = auroc / (2 - auroc) + 2 * auroc**2 / (1 + auroc) - 2 * auroc**2
    return float(np.sqrt(max(0.0, auroc * (1 - auroc) + mean * both) / (known * ood)))
