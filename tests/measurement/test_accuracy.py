from __future__ import annotations

import numpy as np
import pytest

from compress.measurement.accuracy import accuracy_record, agreement, max_abs_diff, predict


def test_accuracy_record() -> None:
    record = accuracy_record(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0]), "test")
    assert (record["top1"], record["correct"], record["n"], record["split"]) == (0.75, 3, 4, "test")
    low, high = record["ci95"]
    assert 0.3 < low < 0.75 < high < 0.96


def test_agreement_and_largest_difference() -> None:
    assert agreement(np.array([0, 1]), np.array([0, 2])) == 0.5
    assert max_abs_diff(np.array([[1.0, 2.0]]), np.array([[1.5, 1.0]])) == 1.0


def test_answers_to_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="not answers to the same images"):
        agreement(np.array([0, 1]), np.array([0]))
    with pytest.raises(ValueError, match="not answers to the same images"):
        accuracy_record(np.array([]), np.array([]), "test")


def test_predict_runs_every_batch_as_float32() -> None:
    seen = []

    def run(images: np.ndarray) -> np.ndarray:
        seen.append((images.shape, images.dtype, images.flags.c_contiguous))
        return images.sum((2, 3)).astype(np.float64)

    logits = predict(run, [np.ones((2, 3, 4, 4)), np.zeros((1, 4, 4, 3)).transpose(0, 3, 1, 2)])
    assert logits.tolist() == [[16.0] * 3] * 2 + [[0.0] * 3]
    assert logits.dtype == np.float32
    assert seen == [((2, 3, 4, 4), np.float32, True), ((1, 3, 4, 4), np.float32, True)]
    with pytest.raises(ValueError, match="no images"):
        predict(run, [])
