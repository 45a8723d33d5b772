"""Grants in balanced accuracy: none by classes of a few images, nor where even identical predictions show nothing."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from compress.efficiency import per_class
from compress.efficiency.grants import grant, why_never
from compress.efficiency.intervals import images_needed, paired_difference
from compress.efficiency.metric import Metric
from compress.efficiency.per_class import MIN_CLASS_IMAGES, ClassPair, balanced_difference, best_case
from compress.measurement.accuracy import bits
from compress.results.per_image import encode_labels

SMALL, LARGE = 3, 20  # classes that lose all of the accuracy that is lost, and classes that lose none


def classes(small: int, lost: int = 0) -> list[ClassPair]:
    return [ClassPair(lost, 0, small, "owl"), *[ClassPair(0, 0, 4000, "cat")] * 9]


def test_a_class_of_few_images_grants_nothing_and_is_named() -> None:
    few = grant(balanced_difference(classes(MIN_CLASS_IMAGES - 1)), 0.1)
    assert not few.granted and few.reason.startswith("owl has 9 test images, too few to show balanced accuracy")
    assert grant(balanced_difference(classes(MIN_CLASS_IMAGES)), 0.1).granted
    absent = [*classes(MIN_CLASS_IMAGES), ClassPair(0, 0, 0, "hen")]  # does not count
    assert grant(balanced_difference(absent), 0.1).granted
    assert grant(paired_difference(0, 0, 400), 0.01).granted  # of top-1, classes play no part


def test_wrong_grants_are_as_rare_as_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of variants that lose the tolerance of 2 points, in few classes of few images; 3.9% is what the module says."""
    monkeypatch.setattr(per_class, "paired_difference", cache(paired_difference))
    rng, tolerance, rounds = np.random.default_rng(0), 0.02, 1500
    loses = tolerance * (SMALL + LARGE) / SMALL + 0.3

    def wrong(images: int) -> float:
        granted, large = 0, [ClassPair(0, 0, 2000)] * LARGE
        for rows in rng.multinomial(images, [loses, 0.3, 0.7 - loses], (rounds, SMALL)).tolist():
            small = [ClassPair(lost, won, images) for lost, won, _ in rows]
            granted += grant(balanced_difference([*small, *large]), tolerance).granted
        return granted / rounds

    assert wrong(2) == 0
    assert 0.005 < wrong(MIN_CLASS_IMAGES) < 0.055


def test_what_identical_predictions_could_not_show_is_said() -> None:
    decision = grant(balanced_difference([ClassPair(0, 0, 200, "cat")] * 9 + [ClassPair(0, 0, 20, "owl")]), 0.01)
    assert not decision.granted
    assert decision.reason.endswith("; even identical predictions could not show it; owl has 20 test images")
    assert grant(paired_difference(0, 0, 1820), 0.01).granted  # by top-1 the same images are enough
    lost = grant(balanced_difference([ClassPair(9, 0, 400, "cat"), ClassPair(0, 0, 900, "owl")]), 0.01)
    assert not lost.granted and "identical" not in lost.reason


def test_the_best_case_is_the_interval_of_identical_predictions() -> None:
    for small in (5, 30, 381, 2000):
        pairs = classes(small)
        assert best_case(pairs).best_high == pytest.approx(balanced_difference(pairs).high)
        assert (why_never(best_case(pairs), 0.01) is None) == grant(balanced_difference(pairs), 0.01).granted
    alone = [ClassPair(0, 0, images_needed(0.01), "cat")]
    assert why_never(best_case(alone), 0.01) is None and why_never(best_case(alone), 0.009)
    with pytest.raises(ValueError, match="a class with images"):
        best_case([ClassPair(0, 0, 0)])


def test_the_metric_names_its_smallest_class() -> None:
    labels = np.repeat([0, 1], [400, 3])
    right = bits(np.ones(403, bool))
    difference = Metric.of("balanced", encode_labels(labels.tolist(), 2), ["cat", "owl"], 403).difference(
        right, right, 403
    )
    assert difference and difference.by_class and difference.by_class.smallest == "owl"
    assert grant(difference, 0.1).reason.startswith("owl has 3 test images")
