"""Balanced accuracy and tests by class, against scikit-learn, scipy and the closure principle."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from compress.efficiency.per_class import (
    ClassPair,
    adjusted_by_class,
    balanced_accuracy,
    balanced_difference,
    holm,
    mcnemar,
)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (0, 6), (7, 3), (20, 20), (300, 240), (4000, 3800)])
def test_mcnemar_is_the_exact_binomial_test(b: int, c: int) -> None:
    expected = stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert mcnemar(b, c) == pytest.approx(expected, rel=1e-6)


def test_holm_is_the_closed_test_of_bonferroni() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        p_values = list(rng.choice([0.001, 0.004, 0.011, 0.02, 0.04, 0.3], 5))
        subsets = [s for size in range(1, 6) for s in combinations(range(5), size)]
        closed = [max(min(1, len(s) * min(p_values[k] for k in s)) for s in subsets if one in s) for one in range(5)]
        assert holm(p_values) == pytest.approx(closed)
    assert holm([]) == []


def test_classes_that_did_not_change_are_hardly_ever_shown() -> None:
    rng, wrong = np.random.default_rng(1), 0
    for _ in range(300):
        classes = [ClassPair(*rng.multinomial(80, [0.06, 0.06, 0.88])[:2], 80) for _ in range(30)]
        wrong += min(adjusted_by_class(classes)) <= 0.05
    assert wrong <= stats.binom.ppf(0.999, 300, 0.05)


def test_the_one_class_that_lost_is_found_among_many() -> None:
    classes = [ClassPair(5, 5, 100) for _ in range(99)]
    classes.insert(42, ClassPair(40, 2, 100))
    classes.append(ClassPair(0, 0, 0))  # without test images: no test, and 1
    adjusted = adjusted_by_class(classes)
    assert [k for k, p_value in enumerate(adjusted) if p_value <= 0.05] == [42]
    assert adjusted[42] == pytest.approx(100 * stats.binomtest(40, 42, 0.5).pvalue)


def test_balanced_accuracy_is_that_of_scikit_learn_with_an_interval_that_covers_the_true_one() -> None:
    rng, covered = np.random.default_rng(2), 0
    images, recalls = np.array([900, 80, 40, 25]), np.array([0.95, 0.8, 0.6, 0.9])
    labels = np.repeat(np.arange(4), images)
    for round in range(200):
        right = rng.random(len(labels)) < recalls[labels]
        correct = np.bincount(labels[right], minlength=4)
        value, (low, high) = balanced_accuracy(list(correct), list(images))
        covered += low <= recalls.mean() <= high
        if round < 5:
            predicted = np.where(right, labels, (labels + 1) % 4)
            assert value == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert stats.binom.ppf(0.001, 200, 0.95) <= covered
    assert balanced_accuracy([3, 0], [4, 0])[0] == 0.75
    with pytest.raises(ValueError, match="a class with images"):
        balanced_accuracy([0], [0])


def test_balanced_difference_covers_the_true_one() -> None:
    rng, covered, images = np.random.default_rng(3), 0, (600, 120, 50)
    shares = [(0.05, 0.02), (0.10, 0.04), (0.16, 0.10)]
    true = sum(b - c for b, c in shares) / 3
    for _ in range(200):
        drawn = [rng.multinomial(n, [b, c, 1 - b - c]) for n, (b, c) in zip(images, shares, strict=True)]
        found = balanced_difference([ClassPair(*row[:2], n) for row, n in zip(drawn, images, strict=True)])
        covered += found.low <= true <= found.high
        assert found.difference == pytest.approx(np.mean([(b - c) / (b + c + both) for b, c, both in drawn]))
    assert stats.binom.ppf(0.001, 200, 0.95) <= covered
    with pytest.raises(ValueError, match="a class with images"):
        balanced_difference([ClassPair(0, 0, 0)])


def test_a_balanced_difference_without_discordant_images_has_a_width() -> None:
    found = balanced_difference([ClassPair(0, 0, 100), ClassPair(0, 0, 10)])
    assert found.difference == 0 and found.high == -found.low > 0.1
    assert (found.only_reference, found.only_variant, found.images) == (0, 0, 110)
