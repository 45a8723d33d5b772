"""How right a variant is, and how far an artifact is from the network that it was made of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.efficiency.intervals import wilson

Array = np.ndarray[Any, Any]


def softmax(logits: Array) -> NDArray[np.float64]:
    """Class probabilities float64 `[images, classes]` from logits `[images, classes]`; no images give none."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True, initial=-np.inf)
    powers = np.exp(shifted)
    probabilities: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return probabilities


def accuracy_record(predicted: Array, labels: Array, split: str) -> dict[str, Any]:
    """The `accuracy` entry of results.json.

    Args:
        predicted: Predicted classes `[images]`.
        labels: True classes `[images]`.
        split: Name of the split that the images are of.

    Raises:
        ValueError: the two differ in length, or are empty.
    """
    _same_length(predicted, labels)
    correct, n = int((predicted == labels).sum()), len(labels)
    return {"top1": correct / n, "correct": correct, "n": n, "ci95": list(wilson(correct, n)), "split": split}


def agreement(predicted: Array, others: Array) -> float:
    """Share of the images for which two models predict the same class, from classes `[images]`.

    Raises:
        ValueError: the two differ in length, or are empty.
    """
    _same_length(predicted, others)
    return float((predicted == others).mean())


def max_abs_diff(logits: Array, others: Array) -> float:
    """Largest absolute difference of two models' logits `[images, classes]`.

    Raises:
        ValueError: the two differ in shape, or are empty.
    """
    _same_length(logits, others)
    return float(np.abs(logits.astype(np.float64) - others).max())


def _same_length(first: Array, second: Array) -> None:
    if first.shape != second.shape or not len(first):
        raise ValueError(f"{list(first.shape)} and {list(second.shape)} are not answers to the same images")
