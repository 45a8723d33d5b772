"""AUROC against scikit-learn's, its interval by simulation, and the comparison of two networks on the same images."""

from __future__ import annotations

import numpy as np
import pytest

from compress.efficiency.ood import auroc_loss, ood_scores, placements

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("decimals", [0, 1, 12])
def test_the_auroc_is_that_of_scikit_learn_with_ties_too(decimals: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    known, ood = np.round(RNG.normal(1, 1, 300), decimals), np.round(RNG.normal(0, 2, 200), decimals)
    labels = np.r_[np.ones(300), np.zeros(200)]
    found = placements(known, ood)
    assert found.auroc == pytest.approx(metrics.roc_auc_score(labels, np.r_[known, ood]))
    assert found.ood.mean() == pytest.approx(found.auroc)


def test_scores_are_the_largest_probability_and_the_log_of_the_sum_of_exponentials() -> None:
    logits = np.array([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    probability = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).max(1)
    softmax, energy = ood_scores(logits)
    assert softmax == pytest.approx(np.log(probability / (1 - probability)))
    assert energy == pytest.approx(np.log(np.exp(logits).sum(1)))
    sure, surer = ood_scores(np.array([[1000.0, 0.0, 0.0], [1001.0, 0.0, 0.0]]))[0]
    assert surer > sure, "probabilities of both are 1"
    with pytest.raises(ValueError, match="not finite"):
        ood_scores(np.array([[np.inf, 0.0]]))


def test_the_interval_is_newcombes() -> None:
    """It ends above 0 and below 1, holds the estimate, and narrows with more images; of perfect scores it is open."""
    perfect = placements(np.ones(30), np.zeros(20)).interval
    assert perfect[1] == 1 and 0.8 < perfect[0] < 1
    none = placements(np.zeros(30), np.ones(20)).interval
    assert none[0] == 0 and none[1] == pytest.approx(1 - perfect[0])
    few, many = (placements(RNG.normal(1, 1, n), RNG.normal(0, 1, n)) for n in (40, 4000))
    assert few.interval[0] < few.auroc < few.interval[1]
    assert many.interval[1] - many.interval[0] < (few.interval[1] - few.interval[0]) / 5


@pytest.mark.parametrize("shift", [0.0, 1.5, 3.0])
def test_intervals_cover_the_truth(shift: float) -> None:
    from scipy.stats import norm

    truth, rng, n = norm.cdf(shift / np.sqrt(2)), np.random.default_rng(1), 600
    found = [placements(rng.normal(shift, 1, 60), rng.normal(0, 1, 40)).interval for _ in range(n)]
    covered = np.mean([low <= truth <= high for low, high in found])
    assert covered > 0.95 - 3 * np.sqrt(0.95 * 0.05 / n)


def test_a_loss_on_the_same_images_is_by_their_difference() -> None:
    """The bootstrap of images gives the same error; scores that rise together are the same network."""
    known, ood = RNG.normal(1, 1, 400), RNG.normal(0, 1, 300)
    noisy = [values + RNG.normal(0, 0.7, len(values)) for values in (known, ood)]
    base, variant = placements(known, ood), placements(*noisy)
    found = auroc_loss(base, variant)
    assert found.value == pytest.approx(base.auroc - variant.auroc) and found.value > 0
    drawn = []
    for _ in range(400):
        rows, others = RNG.integers(0, 400, 400), RNG.integers(0, 300, 300)
        before, after = placements(known[rows], ood[others]), placements(noisy[0][rows], noisy[1][others])
        drawn.append(before.auroc - after.auroc)
    assert found.error == pytest.approx(np.std(drawn), rel=0.15)
    assert auroc_loss(base, placements(np.exp(known), np.exp(ood))).interval == (0, 0)
    with pytest.raises(ValueError, match="needs test images and OOD images"):
        placements(known, ood[:0])
