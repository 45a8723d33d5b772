"""Scores and calibration error against published implementations, and the honesty of their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from compress.efficiency.confidence import (
    BINS,
    MIN_ACCEPTED,
    Scores,
    accept,
    calibration,
    ece_difference,
    image_scores,
    mean_difference,
    mean_of,
    reliability_bins,
    threshold_for,
)

CLASSES = 40


def random_logits(images: int, classes: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 2.5, (images, classes)).astype(np.float32), rng.integers(0, classes, images)


def drawn(images: int, temperature: float, seed: int) -> Scores:
    """Scores of a binary confidence whose true accuracy is that of logits divided by `temperature`."""
    rng = np.random.default_rng(seed)
    confidence = 1 - 0.6 * rng.beta(0.6, 2.5, images)
    accuracy = 1 / (1 + np.exp(-np.log(confidence / (1 - confidence)) / temperature))
    return Scores(confidence, rng.random(images) < accuracy, confidence, confidence)


def true_error(temperature: float) -> float:
    confidence = drawn(100_000, 1.0, seed=99).confidence
    return float(np.abs(confidence - 1 / (1 + np.exp(-np.log(confidence / (1 - confidence)) / temperature))).mean())


def test_proper_scores_are_those_of_scikit_learn() -> None:
    logits, labels = random_logits(5000)
    probabilities = torch.tensor(logits).double().softmax(1).numpy()
    scores, names = image_scores(logits, labels), range(logits.shape[1])
    assert scores.nll.mean() == pytest.approx(log_loss(labels, probabilities, labels=list(names)))
    expected = brier_score_loss(labels, probabilities, labels=list(names), scale_by_half=False)
    assert scores.brier.mean() == pytest.approx(expected)
    assert np.array_equal(scores.correct, logits.argmax(1) == labels)
    assert scores.confidence == pytest.approx(probabilities.max(1))


def test_plug_in_error_is_that_of_torchmetrics_where_bins_of_equal_width_have_equally_many_images() -> None:
    rng = np.random.default_rng(1)
    wide = (np.arange(BINS * 40) // 40 + rng.uniform(0.02, 0.98, BINS * 40)) / BINS
    confidence = np.clip(wide, 1.5 / CLASSES, None)
    labels = np.where(rng.random(len(confidence)) < confidence**2, 0, 1 + np.arange(len(confidence)) % (CLASSES - 1))
    probabilities = np.repeat((1 - confidence)[:, None] / (CLASSES - 1), CLASSES, 1)
    probabilities[:, 0] = confidence
    found = calibration(image_scores(np.log(probabilities), labels))
    expected = multiclass_calibration_error(
        torch.tensor(probabilities), torch.tensor(labels), num_classes=CLASSES, n_bins=BINS, norm="l1"
    )
    assert found.plug_in == pytest.approx(float(expected), abs=1e-6)
    assert 0.05 < found.ece < found.plug_in


def test_debiasing_subtracts_what_simulated_noise_adds() -> None:
    """Kumar et al. draw the accuracy of each bin from a normal distribution around the observed one."""
    scores = drawn(900, 1.4, seed=5)
    bins = reliability_bins(scores)
    counts = np.array([bin.images for bin in bins])
    confidence, accuracy = np.array([[bin.confidence, bin.accuracy] for bin in bins]).T
    noise = np.sqrt(accuracy * (1 - accuracy) / counts)
    draws = np.random.default_rng(0).normal(accuracy, noise, (50_000, len(bins)))
    noisy = (np.abs(confidence - draws) * counts).sum(1).mean() / counts.sum()
    found = calibration(scores)
    assert found.plug_in == pytest.approx((np.abs(confidence - accuracy) * counts).sum() / counts.sum())
    assert found.ece == pytest.approx(2 * found.plug_in - noisy, abs=3e-4)


def test_debiased_error_is_closer_to_the_true_one_and_its_interval_covers_it() -> None:
    for temperature in (1.0, 1.15):
        true, found = true_error(temperature), [calibration(drawn(800, temperature, seed)) for seed in range(40)]
        bias = np.mean([each.ece for each in found]) - true
        assert abs(bias) < abs(np.mean([each.plug_in for each in found]) - true)
        covered = sum(each.interval[0] <= true <= each.interval[1] for each in found)
        assert covered >= stats.binom.ppf(0.005, 40, 0.95)


def test_equal_calibration_is_hardly_ever_shown_to_be_worse() -> None:
    pairs = [(calibration(drawn(600, 1.2, seed)), calibration(drawn(600, 1.2, seed + 500))) for seed in range(60)]
    shown = sum(ece_difference(*pair).p_above_zero <= 0.05 for pair in pairs)
    assert shown <= stats.binom.ppf(0.995, 60, 0.05)
    base, sharper = drawn(2000, 1.0, 3), drawn(2000, 2.5, 3)
    assert ece_difference(calibration(base), calibration(sharper)).p_above_zero < 1e-6


def test_replicates_are_the_same_samples_of_images_for_all_networks() -> None:
    scores = drawn(700, 1.3, seed=2)
    same = Scores(scores.confidence.copy(), scores.correct.copy(), scores.nll, scores.brier)
    difference = ece_difference(calibration(scores), calibration(same))
    assert (difference.value, difference.error, difference.p_above_zero) == (0.0, 0.0, 1.0)


def test_means_have_the_interval_of_a_paired_test() -> None:
    first, second = drawn(4000, 1.0, 1).confidence, drawn(4000, 1.0, 2).confidence
    found, expected = mean_difference(first, second), stats.ttest_rel(second, first).confidence_interval()
    assert found.interval == pytest.approx((expected.low, expected.high), abs=2e-5)
    assert mean_of(np.array([0.25])).interval == (0.25, 0.25)


def test_a_constant_confidence_that_is_right_has_no_error_whatever_the_order_of_the_images() -> None:
    logits, sorted_labels = np.zeros((200, 2)), np.repeat([0, 1], 100)
    found = calibration(image_scores(logits, sorted_labels))
    assert (found.ece, found.plug_in, found.interval[0]) == (0, 0, 0)
    assert [(bin.images, bin.accuracy) for bin in reliability_bins(image_scores(logits, sorted_labels))] == [(200, 0.5)]
    wrong = calibration(image_scores(np.tile([3.0, 0.0], (200, 1)), sorted_labels))
    assert wrong.plug_in == pytest.approx(1 / (1 + math.exp(-3)) - 0.5)


@pytest.mark.parametrize("step", [1.0, 2.0])
def test_the_order_of_images_with_equal_confidence_does_not_matter(step: float) -> None:
    """Logits on the grid of an INT8 output, of images by class, some classes harder than others."""
    rng, classes = np.random.default_rng(6), 10
    labels = np.sort(rng.integers(0, classes, 1500))
    logits = rng.normal(size=(1500, classes))
    logits[np.arange(1500), labels] += np.linspace(0.7, 4, classes)[labels]
    logits = np.round(1.3 * logits / step) * step
    logits[np.arange(1500), logits.argmax(1)] += step  # one class is the most probable, whatever the order of classes
    scores, mixed = image_scores(logits, labels), rng.permutation(1500)
    assert len(set(scores.confidence)) < 1480
    again = image_scores(logits[mixed], labels[mixed])
    first, second = calibration(scores), calibration(again)
    assert (first.ece, first.plug_in) == pytest.approx((second.ece, second.plug_in), abs=1e-12)
    assert [(a.images, a.accuracy) for a in reliability_bins(scores)] == [
        (b.images, pytest.approx(b.accuracy)) for b in reliability_bins(again)
    ]
    turned = image_scores(np.roll(logits, 3, 1), (labels + 3) % classes)  # sums in another order: another last bit
    assert calibration(turned).plug_in == pytest.approx(first.plug_in, abs=1e-12)


def test_bins_have_equally_many_images() -> None:
    scores = drawn(100, 1.0, 0)
    bins = reliability_bins(scores)
    assert [bin.images for bin in bins] == [7] * 10 + [6] * 5
    assert [bin.confidence for bin in bins] == sorted(bin.confidence for bin in bins)
    assert [bin.images for bin in reliability_bins(drawn(4, 1.0, 0))] == [1] * 4
    assert math.isfinite(calibration(drawn(1, 1.0, 0)).ece)


def test_thresholds_accept_and_are_fitted_to_a_precision() -> None:
    confidence = np.repeat([0.9, 0.8, 0.7], 40)
    correct = np.concatenate([np.ones(40), np.arange(40) < 30, np.zeros(40)]).astype(bool)
    scores = Scores(confidence, correct, confidence, confidence)
    found = accept(scores, 0.8)
    assert (found.images, found.correct, found.precision) == (80, 70, 0.875)
    assert accept(scores, 0.95).precision is None
    assert threshold_for(scores, 1.0) == 0.9
    assert threshold_for(scores, 0.875) == 0.8  # not within images of the same confidence
    assert threshold_for(scores, 0.1) == 0.7
    few = Scores(confidence[: MIN_ACCEPTED - 1], correct[: MIN_ACCEPTED - 1], confidence, confidence)
    assert threshold_for(few, 0.5) is None


def test_images_and_labels_have_to_match() -> None:
    logits, labels = random_logits(3)
    for wrong in (labels[:2], labels[:0]):
        with pytest.raises(ValueError, match="not predictions of images"):
            image_scores(logits, wrong)
