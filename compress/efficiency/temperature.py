"""The temperature that logits are divided by for calibrated confidence (Guo et al. 2017, arXiv 1706.04599)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

LIMITS = (0.05, 20.0)
"""Temperatures that are considered: where every label has the largest logit, NLL falls without end towards 0."""
_BISECTIONS = 40


def fit_temperature(logits: NDArray[Any], labels: NDArray[np.int64]) -> float | None:
    """Return the temperature with the lowest NLL; None where it is not between 0.05 and 20.

    NLL is convex in 1 / temperature, and its slope there is the mean over images of the expected logit less that of the
    label, whose sign is found by bisection.

    Args:
        logits: Logits `[images, classes]`.
        labels: Labels `[images]`.

    Raises:
        ValueError: There are no images, not as many labels, or logits that are not finite.
    """
    if not len(labels) or len(logits) != len(labels) or not np.isfinite(logits).all():
        raise ValueError(f"no temperature can be fitted on {len(labels)} labels and these logits")
    values = np.asarray(logits, np.float64)
    shifted = values - values.max(1, keepdims=True)
    of_label = shifted[np.arange(len(labels)), labels]

    def slope(inverse: float) -> float:
        powers = np.exp(inverse * shifted)
        return float(((powers * shifted).sum(1) / powers.sum(1) - of_label).mean())

    low, high = (math.log(1 / limit) for limit in reversed(LIMITS))
    if slope(math.exp(low)) >= 0 or slope(math.exp(high)) <= 0:
        return None
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(math.exp(middle)) > 0 else (middle, high)
    return math.exp(-(low + high) / 2)
