"""Recall at k against brute force, rank correlation against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from compress.efficiency import retrieval
from compress.efficiency.retrieval import (
    evenly,
    image_recall,
    mean_cosine,
    rank_correlation,
    spearman,
    text_recall,
)

KS = (1, 5, 10)


def by_brute_force(embeddings: np.ndarray, labels: np.ndarray, k: int) -> tuple[int, int]:
    """Sort all other images by cosine, for each image that is not alone in its class; ties by their order."""
    found = queries = 0
    for query, vector in enumerate(embeddings):
        others = [row for row in range(len(labels)) if row != query]
        if not any(labels[row] == labels[query] for row in others):
            continue
        queries += 1
        norms = np.linalg.norm(embeddings[others], axis=1) * np.linalg.norm(vector)
        cosines = embeddings[others] @ vector / np.where(norms > 0, norms, 1)
        nearest = np.argsort(-cosines, kind="stable")[:k]
        found += any(labels[others[row]] == labels[query] for row in nearest)
    return found, queries


@pytest.mark.parametrize("seed", range(4))
def test_image_recall_is_that_of_a_search(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "BLOCK", 7)  # of 60 images, so that the last block is shorter
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 12, 60)
    labels[0] = 99  # alone in its class
    embeddings = rng.integers(-2, 3, (60, 4)).astype(np.float64)  # few directions, so that many are equally near
    exact = embeddings / np.where((n := np.linalg.norm(embeddings, axis=1, keepdims=True)) > 0, n, 1)
    recalls = image_recall(exact, labels, KS)
    assert [each.k for each in recalls] == list(KS)
    distinct = rng.standard_normal((60, 4))
    for recall in image_recall(distinct, labels, KS):
        assert (recall.found, recall.n) == by_brute_force(distinct, labels, recall.k)
    assert [each.found for each in recalls] == sorted(each.found for each in recalls)


def test_of_equally_near_images_the_first_counts_as_nearer() -> None:
    same = np.ones((4, 3))
    labels = np.array([0, 1, 1, 0])
    # Neighbours of image 0 are 1, 2, 3 in this order, those of image 3 are 0, 1, 2.
    assert [(each.found, each.n) for each in image_recall(same, labels, (1, 2, 3))] == [(1, 4), (3, 4), (4, 4)]
    found = [by_brute_force(same, labels, k) for k in (1, 2, 3)]
    assert found == [(1, 4), (3, 4), (4, 4)]


def test_an_image_is_no_neighbour_of_itself() -> None:
    apart = np.array([[1.0, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
    assert image_recall(apart, np.array([0, 1, 0, 1]), (1,))[0].found == 0
    assert image_recall(apart, np.array([0, 1, 2, 3]), (1,))[0].n == 0


def test_text_recall_is_top_k() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((50, 8)), rng.integers(0, 8, 50)
    recalls = text_recall(logits, labels, KS)
    assert [each.k for each in recalls] == [1, 5], "with 8 classes nothing is missed among 10"
    for recall in recalls:
        nearest = np.argsort(-logits, axis=1, kind="stable")[:, : recall.k]
        assert recall.found == (nearest == labels[:, None]).any(1).sum() and recall.n == 50
    assert recalls[0].found == (logits.argmax(1) == labels).sum()


@pytest.mark.parametrize("tied", [False, True])
def test_spearman_is_that_of_scipy(tied: bool) -> None:
    rng = np.random.default_rng(1)
    one, other = rng.standard_normal((2, 200))
    other += one
    if tied:
        one, other = one.round(), other.round()
    assert spearman(one, other) == pytest.approx(stats.spearmanr(one, other).statistic, abs=1e-12)


def test_rank_correlation_is_of_all_pairs_of_images() -> None:
    rng = np.random.default_rng(2)
    one, other = rng.standard_normal((20, 6)), rng.standard_normal((20, 9))
    pairs = [(a, b) for a in range(20) for b in range(a)]

    def similarities(vectors: np.ndarray) -> list[float]:
        lengths = np.linalg.norm(vectors, axis=1)
        return [float(vectors[a] @ vectors[b] / lengths[a] / lengths[b]) for a, b in pairs]

    expected = stats.spearmanr(similarities(one), similarities(other)).statistic
    assert rank_correlation(one, other) == pytest.approx(expected, abs=1e-4)
    turned = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    assert rank_correlation(one, 3 * one @ turned) == pytest.approx(1, abs=1e-6), "a turned space ranks alike"
    assert rank_correlation(one[:2], other[:2]) is None
    assert rank_correlation(np.ones((5, 3)), other[:5]) is None


def test_mean_cosine_does_not_depend_on_lengths() -> None:
    one = np.array([[1.0, 0], [0, 2]])
    assert mean_cosine(one, 5 * one) == pytest.approx(1)
    assert mean_cosine(one, one[::-1]) == pytest.approx(0)


def test_a_subset_is_even_and_the_same_each_time() -> None:
    assert evenly(3, 5).tolist() == [0, 1, 2]
    assert evenly(10, 4).tolist() == [0, 2, 5, 7]
