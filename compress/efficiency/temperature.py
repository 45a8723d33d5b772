"""The temperature that logits are divided by for calibrated confidence (Guo et al. 2017, arXiv 1706.04599)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

LIMITS = (0.05, 20.0)
"""Temperatures that are considered: where every label has the largest logit, NLL falls without end towards 0."""
_BISECTIONS = 18  # to a relative error of 1.2e-5; each is a pass over all logits
ROWS = 4096  # of logits that are converted at once


def fit_temperature(logits: NDArray[Any], labels: NDArray[np.int64]) -> float | None:
    """Return the temperature with the lowest NLL; None where it is not between 0.05 and 20.

    NLL is convex in 1 / temperature, and its slope there is the sum over images of the expected logit less that of the
    label, whose sign is found by bisection.

    Args:
        logits: Logits `[images, classes]`.
        labels: Labels `[images]`.

    Raises:
        ValueError: There are no images, not as many labels, or logits that are not finite.
    """
    blocks = [slice(start, start + ROWS) for start in range(0, len(labels), ROWS)]
    if not blocks or len(logits) != len(labels) or not all(np.isfinite(logits[rows]).all() for rows in blocks):
        raise ValueError(f"no temperature can be fitted on {len(labels)} labels and these logits")

    def slope(inverse: float) -> float:
        return math.fsum(_slope(logits[rows], labels[rows], inverse) for rows in blocks)

    low, high = (math.log(1 / limit) for limit in reversed(LIMITS))
    if slope(math.exp(low)) >= 0 or slope(math.exp(high)) <= 0:
        return None
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(math.exp(middle)) > 0 else (middle, high)
    return math.exp(-(low + high) / 2)


def _slope(logits: NDArray[Any], labels: NDArray[np.int64], inverse: float) -> float:
    """Return the slope of the NLL of some images `[images, classes]` in 1 / temperature."""
    shifted = np.asarray(logits, np.float64)
    shifted = shifted - shifted.max(1, keepdims=True)
    powers = np.exp(inverse * shifted)
    expected = np.einsum("ij,ij->i", powers, shifted) / powers.sum(1)
    return float((expected - shifted[np.arange(len(labels)), labels]).sum())
