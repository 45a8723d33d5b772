"""Figures of embeddings: recall at k, and how far two embeddings rank pairs of images alike. Imports no torch.

All embeddings are compared by cosine, which is the dot product where they have length 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Embeddings = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]

BLOCK = 512  # images whose similarities to all others are in memory at once
MAX_IMAGES = 5000  # for recall between images: its cost grows with the square
MAX_PAIRED = 500  # for rank correlation, of which all 124,750 pairs are ranked


@dataclass(frozen=True)
class Recall:
    """Recall at k: of `n` queries, the number with something relevant among the `k` nearest."""

    k: int
    found: int
    n: int


def evenly(images: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` rows of `images`, evenly spaced: the same ones each time."""
    if images <= most:
        return np.arange(images)
    return np.arange(most) * images // most


def unit(vectors: Embeddings) -> NDArray[np.float32]:
    """Scale vectors `[n, width]` to length 1; zero vectors stay 0."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)


def image_recall(embeddings: Embeddings, labels: Labels, ks: Sequence[int]) -> list[Recall]:
    """Return recall at each k from image to image: whether another image of the same class is among the k nearest.

    Every image is a query once, against all others; an image that is alone in its class is none. Of images that are
    equally near the first counts as nearer. This is Recall@K of metric learning (Song et al. 2016, arXiv 1511.06452,
    section 5.1).

    Args:
        embeddings: `[images, width]`.
        labels: Class of each image, `[images]`.
        ks: Numbers of neighbours.
    """
    vectors, places = unit(embeddings), np.arange(len(labels))
    ranks: list[NDArray[np.int64]] = []
    for start in range(0, len(labels), BLOCK):
        rows = places[start : start + BLOCK]
        near = vectors[rows] @ vectors.T
        near[np.arange(len(rows)), rows] = -np.inf  # an image is no neighbour of itself
        same = labels[rows, None] == labels[None]
        same[np.arange(len(rows)), rows] = False
        own = np.where(same, near, -np.inf)
        first = own.argmax(1)
        best = own[np.arange(len(rows)), first][:, None]
        before = (near > best) | ((near == best) & (places[None] < first[:, None]))
        before[np.arange(len(rows)), rows] = False
        ranks.append(before.sum(1)[same.any(1)])
    return _at(np.concatenate(ranks) if ranks else np.empty(0, np.int64), ks)


def text_recall(logits: Embeddings, labels: Labels, ks: Sequence[int]) -> list[Recall]:
    """Return recall at each k from image to text: whether the text of the image's class is among the k nearest.

    At k = 1 it is zero-shot top-1. Of texts that are equally near the first counts as nearer.

    Args:
        logits: Similarities of images and texts, `[images, classes]`.
        labels: Class of each image, `[images]`.
        ks: Numbers of texts; those from the number of classes on are left out, as nothing could be missed.
    """
    own = logits[np.arange(len(labels)), labels][:, None]
    before = (logits > own) | ((logits == own) & (np.arange(logits.shape[1])[None] < labels[:, None]))
    return _at(before.sum(1), [k for k in ks if k < logits.shape[1]])


def _at(ranks: NDArray[np.integer[Any]], ks: Sequence[int]) -> list[Recall]:
    return [Recall(k, int((ranks < k).sum()), len(ranks)) for k in ks]


def mean_cosine(one: Embeddings, other: Embeddings) -> float:
    """Return the mean cosine of the angles between the embeddings `[images, width]` of the same images."""
    return float((unit(one).astype(np.float64) * unit(other)).sum(1).mean())


def rank_correlation(one: Embeddings, other: Embeddings) -> float | None:
    """Return Spearman's correlation of the similarities of all pairs of images in two embeddings of them.

    Widths may differ. None for fewer than three images, and where all similarities of a side are the same.
    """
    pairs = np.triu_indices(len(one), 1)
    if len(one) < 3:
        return None
    vectors = (unit(side).astype(np.float64) for side in (one, other))
    return spearman(*((side @ side.T)[pairs] for side in vectors))


def spearman(one: NDArray[Any], other: NDArray[Any]) -> float | None:
    """Return Spearman's rank correlation of two rows of numbers, tied ones with their mean rank; None if constant."""
    ranked = [_mean_ranks(values) for values in (one, other)]
    centred = [ranks - ranks.mean() for ranks in ranked]
    scale = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float(centred[0] @ centred[1]) / scale if scale > 0 else None


def _mean_ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[place], np.float64)
