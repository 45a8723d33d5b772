from __future__ import annotations

import numpy as np
import pytest

from compress.measurement.accuracy import accuracy_record, agreement, max_abs_diff, softmax


def test_an_accuracy_record_has_counts_and_an_interval() -> None:
    record = accuracy_record(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0]), "test")
    assert (record["top1"], record["correct"], record["n"], record["split"]) == (0.75, 3, 4, "test")
    low, high = record["ci95"]
    assert 0.3 < low < 0.75 < high < 0.96


def test_agreement_is_a_share_and_the_largest_difference_absolute() -> None:
    assert agreement(np.array([0, 1]), np.array([0, 2])) == 0.5
    assert max_abs_diff(np.array([[1.0, 2.0]]), np.array([[1.5, 1.0]])) == 1.0


def test_predictions_of_different_images_are_refused() -> None:
    with pytest.raises(ValueError, match="not predictions of the same images"):
        agreement(np.array([0, 1]), np.array([0]))
    with pytest.raises(ValueError, match="not predictions of the same images"):
        accuracy_record(np.array([]), np.array([]), "test")


def test_probabilities_of_huge_logits_are_finite_and_add_up_to_one() -> None:
    probabilities = softmax(np.array([[1e4, 1e4], [-1e4, 0.0]], np.float32))
    np.testing.assert_allclose(probabilities, [[0.5, 0.5], [0.0, 1.0]])
    assert probabilities.dtype == np.float64
    assert softmax(np.empty((0, 3), np.float32)).shape == (0, 3)
