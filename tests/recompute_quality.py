"""Confidence and classes of a report, computed again from `results.json` by scikit-learn and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from compress.results import Quality, QualityChange, RunRecord

Key = tuple[str, str, str | None]
Counts = tuple[tuple[int, int, int], ...]


def recompute_quality(results: RunRecord) -> int:
    """Check what is derived, and return the number of figures checked."""
    labels, right = _labels(results), _right(results)
    checked = 0
    for variant in results.variants:
        for key, quality in [
            ((variant.id, "pytorch", None), variant.quality),
            *(((variant.id, file.runtime, file.precision), file.quality) for file in variant.artifacts),
        ]:
            checked += _quality(quality, right[key], labels) if quality else 0
    for reference in {change.reference for change in results.quality_changes}:
        changes = [change for change in results.quality_changes if change.reference == reference]
        counts = [_counts(change, right, labels, len(results.data.classes)) for change in changes]
        shown = _shown(counts)
        checked += sum(map(_change, changes, counts, [shown[own] for own in counts], [results] * len(changes)))
    return checked


def _labels(results: RunRecord) -> np.ndarray:
    width = len(f"{len(results.data.classes) - 1:x}")
    digits = results.data.test_labels or ""
    return np.array([int(digits[k : k + width], 16) for k in range(0, len(digits), width)])


def _right(results: RunRecord) -> dict[Key, np.ndarray]:
    """Whether each prediction is right, `[images]`, by network and file."""
    bits: dict[Key, str | None] = {}
    for variant in results.variants:
        bits[variant.id, "pytorch", None] = variant.accuracy.right
        bits |= {(variant.id, file.runtime, file.precision): file.right for file in variant.artifacts}
    found = {key: [int(bit) for digit in own for bit in f"{int(digit, 16):04b}"] for key, own in bits.items() if own}
    return {key: np.array(own[: results.data.test], bool) for key, own in found.items()}


def _quality(quality: Quality, right: np.ndarray, labels: np.ndarray) -> int:
    found = quality.confidence
    counts = np.array([bin.images for bin in found.bins])
    confidence, accuracy = np.array([[bin.confidence, bin.accuracy] for bin in found.bins]).T
    assert counts.sum() == len(labels) and len(counts) <= 15 and (np.diff(confidence) > 0).all()
    assert found.ece_plug_in == pytest.approx(np.average(np.abs(confidence - accuracy), weights=counts))
    assert found.mean == pytest.approx(np.average(confidence, weights=counts))
    assert found.overconfidence == pytest.approx(found.mean - right.mean())
    assert found.ece_ci95[0] <= found.ece <= found.ece_ci95[1] and found.ece <= found.ece_plug_in + 1e-9
    predicted = np.where(right, labels, (labels + 1) % (labels.max() + 1))
    assert quality.balanced == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert quality.balanced_ci95[0] < quality.balanced <= quality.balanced_ci95[1]
    for row in quality.classes:
        interval = stats.binomtest(round(row.recall * row.images), row.images).proportion_ci(0.95, method="wilson")
        assert row.ci95 == pytest.approx((interval.low, interval.high))
    return 6 + len(quality.classes)


def _counts(change: QualityChange, right: dict[Key, np.ndarray], labels: np.ndarray, classes: int) -> Counts:
    """Images by class that only the reference is right on, that only the variant is, and all."""
    own = right[change.variant, change.runtime, change.precision]
    base = next(found for key, found in right.items() if key[:2] == (change.reference, change.reference_runtime))
    rows = (base & ~own, ~base & own, np.ones_like(own))
    return tuple(zip(*(np.bincount(labels[each], minlength=classes).tolist() for each in rows), strict=True))


def _shown(counts: list[Counts]) -> dict[Counts, set[int]]:
    """Classes of each file that are shown to have changed, of all files together: Holm's procedure, stepping down."""
    distinct = list(dict.fromkeys(counts))
    tests = [
        (stats.binomtest(b, b + c).pvalue if b + c else 1.0, file, k)
        for file, own in enumerate(distinct)
        for k, (b, c, n) in enumerate(own)
        if n
    ]
    shown: dict[Counts, set[int]] = {own: set() for own in distinct}
    for rank, (p_value, file, k) in enumerate(sorted(tests)):
        if p_value > 0.05 / (len(tests) - rank):
            break
        shown[distinct[file]].add(k)
    return shown


def _change(change: QualityChange, counts: Counts, shown: set[int], results: RunRecord) -> int:
    names = results.data.classes
    lost = {names[k] for k in shown if counts[k][0] > counts[k][1]}
    assert {each.name for each in change.lost} == lost or change.lost_left_out
    assert change.gained == len(shown) - len(lost)
    losses = [(b - c) / n for b, c, n in counts if n]
    assert change.balanced_difference == pytest.approx(np.mean(losses))
    for shift in (change.ece, change.nll, change.brier):
        assert shift.ci95[0] <= shift.difference <= shift.ci95[1] and (not shift.worse or shift.ci95[0] > 0)
        assert not shift.worse or results.data.test >= 30
    return 6
