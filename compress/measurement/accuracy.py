"""How right a variant is, and how far an artifact is from the network that it was made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from compress.efficiency.intervals import wilson

Array = np.ndarray[Any, Any]


def predict(run: Callable[[Array], Array], batches: Iterable[Array]) -> Array:
    """Logits of all images.

    Args:
        run: Images float32 `[b, 3, r, r]` to logits `[b, classes]`.
        batches: Images `[b, 3, r, r]`, normalised.

    Returns:
        Logits float32 `[images, classes]`.

    Raises:
        ValueError: there are no images.
    """
    logits = [np.asarray(run(np.ascontiguousarray(batch, np.float32)), np.float32) for batch in batches]
    if not logits:
        raise ValueError("there are no images to predict")
    return np.concatenate(logits)


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
