"""Accuracy of a variant, and agreement of an artifact with the network that it was made from."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from compress.efficiency.intervals import wilson

Array = np.ndarray[Any, Any]


class AccuracyRecord(TypedDict):
    """The `accuracy` entry of results.json: fractions, and the 95% interval of `top1` (Wilson)."""

    top1: float
    correct: int
    n: int
    ci95: list[float]
    split: str


def chance(labels: Array) -> float:
    """Return the accuracy on labels `[images]` without looking at the images: the share of the most frequent class."""
    return float(np.bincount(labels).max() / len(labels))


def softmax(logits: Array) -> NDArray[np.float64]:
    """Convert logits `[images, classes]` to class probabilities float64 `[images, classes]`; there may be no images."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True, initial=-np.inf)
    powers = np.exp(shifted)
    probabilities: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return probabilities


def accuracy_record(predicted: Array, labels: Array, split: str) -> AccuracyRecord:
    """Make the `accuracy` entry of results.json.

    Args:
        predicted: Predicted classes `[images]`.
        labels: True classes `[images]`.
        split: Name of the split of the images.

    Raises:
        ValueError: the two differ in length, or are empty.
    """
    _same_length(predicted, labels)
    correct, n = int((predicted == labels).sum()), len(labels)
    return {"top1": correct / n, "correct": correct, "n": n, "ci95": list(wilson(correct, n)), "split": split}


def bits(correct: Array) -> str:
    """Encode one bit per image as hexadecimal digits, the first image in the highest bit of the first byte."""
    return np.packbits(correct).tobytes().hex()


def agreement(predicted: Array, others: Array) -> float:
    """Compute the share of images for which two models predict the same class, from classes `[images]`.

    Raises:
        ValueError: the two differ in length, or are empty.
    """
    _same_length(predicted, others)
    return float((predicted == others).mean())


def max_abs_diff(logits: Array, others: Array) -> float:
    """Compute the largest absolute difference of two models' logits `[images, classes]`.

    Raises:
        ValueError: the two differ in shape, or are empty.
    """
    _same_length(logits, others)
    return float(np.abs(logits.astype(np.float64) - others).max())


def _same_length(first: Array, second: Array) -> None:
    if first.shape != second.shape or not len(first):
        raise ValueError(f"shapes {list(first.shape)} and {list(second.shape)} are not predictions of the same images")
