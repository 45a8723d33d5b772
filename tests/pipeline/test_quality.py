"""Confidence and classes of networks and files from logits, and whether the report names what was made worse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from results_factory import example_record
from results_factory import variant as make_variant
from scipy import stats
from sklearn.metrics import recall_score, top_k_accuracy_score

from compress.data.prepared import ImageData, Split
from compress.efficiency.confidence import MIN_ACCEPTED
from compress.efficiency.intervals import MIN_IMAGES
from compress.efficiency.per_class import ClassPair
from compress.pipeline.quality import Predictor, quality, top_rows
from compress.pipeline.quality_changes import adjusted_by_file, compare
from compress.report.remarks import reservations
from compress.report.shown_worse import shown_worse
from compress.results import QualityChange, RunRecord, Variant

N, CLASSES = 2000, ("cat", "dog", "fox", "hen", "owl")
CAT = 0


def calibrated(seed: int = 0, classes: int = len(CLASSES)) -> tuple[np.ndarray, np.ndarray]:
    """Logits `[images, classes]` that are perfectly calibrated: labels are drawn from their softmax."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (N, classes)).astype(np.float32)
    shares = np.exp(logits - logits.max(1, keepdims=True)).cumsum(1)
    return logits, (shares < rng.random((N, 1)) * shares[:, -1:]).sum(1)


def wrong_in_cats(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Move a third of the right predictions of cats to other classes, with the same confidence."""
    changed = logits.copy()
    rows = np.flatnonzero((labels == CAT) & (logits.argmax(1) == CAT))[::3]
    changed[rows] = np.roll(logits[rows], 1, axis=1)
    return changed


def predictor(logits: np.ndarray, labels: np.ndarray, variant: str, runtime: str = "pytorch") -> Predictor:
    split = Split(np.zeros((len(labels), 3, 1, 1), np.uint8), labels)
    names = CLASSES if logits.shape[1] == len(CLASSES) else tuple(f"class {k}" for k in range(logits.shape[1]))
    data = ImageData("tiny", names, 1, split, split, split, split, "", 0)
    return Predictor(data, variant, runtime, None, logits, logits)


def changes(**made: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> list[QualityChange]:
    logits, labels = calibrated()
    others = [predictor(make(logits, labels), labels, name) for name, make in made.items()]
    return compare(predictor(logits, labels, "base"), others, 0.9)


def record_of(found: list[QualityChange], predictors: list[Predictor]) -> RunRecord:
    """A run of these variants against `base`."""
    variants: list[Variant] = [
        make_variant(each.variant).model_copy(update={"quality": quality(each)}) for each in predictors
    ]
    headline = example_record().headline.model_copy(update={"reference": "base"})
    update = {"variants": tuple(variants), "quality_changes": tuple(found), "headline": headline, "efficiency": ()}
    return example_record().model_copy(update=update)


def test_what_was_made_worse_is_named_and_nothing_else() -> None:
    logits, labels = calibrated()
    networks = {
        "base": logits,
        "same": logits + 1,
        "blind": wrong_in_cats(logits, labels),
        "bold": logits * 3,
    }
    predictors = [predictor(own, labels, name) for name, own in networks.items()]
    found = compare(predictors[0], predictors[1:], 0.9)
    lines = list(shown_worse(record_of(found, predictors)))
    assert len(lines) == 2
    confidence, classes = lines
    assert "worse than that of base in " in confidence and "bold: ECE" in confidence and "overconfident" in confidence
    assert classes.startswith("Accuracy against base is shown to be lost by blind: cat −")
    assert "same" not in confidence + classes and "bold" not in classes and "dog" not in classes
    assert set(lines) <= set(reservations(record_of(found, predictors)))


def test_a_shift_of_all_logits_changes_nothing() -> None:
    (same,) = changes(same=lambda logits, labels: logits + 2)
    assert not (same.ece.worse or same.nll.worse or same.brier.worse or same.lost or same.gained)
    assert same.mean_confidence == pytest.approx(0, abs=1e-6) and same.balanced_difference == 0
    assert same.same_threshold.accepted == pytest.approx(same.reference_threshold.accepted, abs=1e-3)


def test_a_class_is_lost_by_the_exact_test_of_its_images() -> None:
    logits, labels = calibrated()
    (blind,) = changes(blind=wrong_in_cats)
    (lost,) = blind.lost
    rows = labels == CAT
    moved = int((wrong_in_cats(logits, labels)[rows].argmax(1) != logits[rows].argmax(1)).sum())
    assert (lost.name, lost.images, lost.difference) == ("cat", rows.sum(), pytest.approx(moved / rows.sum()))
    assert lost.p_adjusted == pytest.approx(len(CLASSES) * stats.binomtest(moved, moved, 0.5).pvalue)
    assert blind.balanced_difference == pytest.approx(moved / rows.sum() / len(CLASSES))


def test_an_overconfident_network_gets_a_threshold_for_the_precision_of_the_reference() -> None:
    bold, shy = changes(bold=lambda logits, labels: logits * 3, shy=lambda logits, labels: logits / 2)
    assert bold.ece.worse and bold.nll.worse and bold.mean_confidence_ci95[0] > 0 > shy.mean_confidence_ci95[1]
    reference, same, fitted = bold.reference_threshold, bold.same_threshold, bold.fitted_threshold
    assert same.accepted > reference.accepted and (same.precision or 1) < (reference.precision or 0)
    assert fitted and fitted.threshold > 0.9 and fitted.precision == pytest.approx(reference.precision, abs=0.01)
    assert not bold.lost and not bold.gained  # no prediction changed
    assert shy.fitted_threshold and shy.fitted_threshold.threshold < 0.9


def test_few_images_show_nothing_worse() -> None:
    logits, labels = calibrated()
    for images, shown in ((MIN_IMAGES - 1, False), (MIN_IMAGES * 10, True)):
        rows = slice(images)
        base, bold = (
            predictor(own[rows], labels[rows], name) for name, own in (("base", logits), ("bold", logits * 9))
        )
        (found,) = compare(base, [bold], 0.9)
        assert found.nll.worse is shown and found.nll.ci95[0] > 0
        assert found.ece.worse is shown and (shown or not found.brier.worse)


def test_one_correction_is_for_the_classes_of_all_files_and_the_scores_of_all_files() -> None:
    logits, labels = calibrated()
    networks = [
        wrong_in_cats(logits, labels),
        logits * 1.2,
        wrong_in_cats(logits * 1.1, labels),
        logits[:, [1, 0, 2, 3, 4]],
    ]
    files = [predictor(own, labels, f"v{k}", runtime) for k, own in enumerate(networks) for runtime in ("a", "b")]
    base = predictor(logits, labels, "base")
    together = compare(base, files, 0.9)
    moved = round(together[0].lost[0].difference * together[0].lost[0].images)
    # v1 has the base's predictions, v2 those of v0, and both files of a network are equal: 3 x 5 tests, 2 of v3 first.
    expected = pytest.approx((3 * 5 - 2) * stats.binomtest(moved, moved, 0.5).pvalue)
    assert [each.lost[0].p_adjusted for each in together if each.variant in ("v0", "v2")] == [expected] * 4
    assert [each.model_copy(update={"runtime": "a"}) for each in together[1::2]] == together[::2]
    assert not any(each.lost or each.gained for each in together if each.variant == "v1")


def test_variants_that_lost_in_no_class_are_hardly_ever_named() -> None:
    """Eight files, each of which is right as often as the reference: any class of any is named in 5% of runs."""
    rng, runs, named = np.random.default_rng(8), 300, 0
    for _ in range(runs):
        base = rng.random((10, 200)) < 0.8
        others = [np.where(rng.random(base.shape) < 0.3, rng.random(base.shape) < 0.8, base) for _ in range(8)]
        counts = [((base & ~own).sum(1), (~base & own).sum(1)) for own in others]
        files = [tuple(ClassPair(int(b), int(c), 200) for b, c in zip(*own, strict=True)) for own in counts]
        named += min(min(each) for each in adjusted_by_file(files).values()) <= 0.05
    assert named <= stats.binom.ppf(0.999, runs, 0.05)


def test_a_reference_that_accepts_few_validation_images_fits_no_threshold() -> None:
    logits, labels = calibrated()
    base, other = predictor(logits, labels, "base"), predictor(logits / 2, labels, "shy")
    ordered = np.sort(base.scores.confidence)
    enough, few = compare(base, [other], ordered[-MIN_ACCEPTED]), compare(base, [other], ordered[1 - MIN_ACCEPTED])
    assert enough[0].fitted_threshold is not None and few[0].fitted_threshold is None


def test_without_validation_logits_no_threshold_is_fitted() -> None:
    logits, labels = calibrated()
    split = Split(np.zeros((N, 3, 1, 1), np.uint8), labels)
    data = ImageData("tiny", CLASSES, 1, split, split, split, split, "", 0)
    old = Predictor(data, "old", "pytorch", None, logits, None)
    (change,) = compare(predictor(logits, labels, "base"), [old], 0.9)
    assert change.fitted_threshold is None and change.same_threshold.accepted > 0


def test_recalls_and_top5_are_those_of_scikit_learn() -> None:
    logits, labels = calibrated(classes=30)
    found = quality(predictor(logits, labels, "wide"))
    recalls = recall_score(labels, logits.argmax(1), average=None)
    assert [each.recall for each in found.classes] == pytest.approx(sorted(recalls)[:20])
    assert found.classes_left_out == 10 and found.balanced == pytest.approx(recalls.mean())
    assert found.top5 == pytest.approx(top_k_accuracy_score(labels, logits, k=5))
    assert found.top5_right and len(found.top5_right) == N // 4
    narrow, narrow_labels = calibrated()
    assert quality(predictor(narrow, narrow_labels, "narrow")).top5 is None


def test_top_rows_with_one_class_are_the_correct_predictions() -> None:
    rng = np.random.default_rng(4)
    logits = rng.integers(0, 3, (500, 6)).astype(np.float32)  # many equal ones
    labels = rng.integers(0, 6, 500)
    assert np.array_equal(top_rows(logits, labels, 1), logits.argmax(1) == labels)
    assert top_rows(logits, labels, 6).all()
