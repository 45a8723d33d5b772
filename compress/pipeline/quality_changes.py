"""Predictions of networks and files against those of a reference beyond top-1: confidence and classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from compress.efficiency.confidence import (
    Accepted,
    Estimate,
    accept,
    ece_difference,
    mean_difference,
    threshold_for,
)
from compress.efficiency.files import base_file, files_of
from compress.efficiency.intervals import paired_difference, wilson
from compress.efficiency.per_class import LEVEL, ClassPair, adjusted_by_class, balanced_difference, holm
from compress.pipeline.quality import MAX_CLASSES, Key, Predictor
from compress.results.quality import ClassLoss, QualityChange, Shift, Thresholded
from compress.results.variant import Variant


def quality_changes(
    reference: str, variants: Sequence[Variant], predictors: Mapping[Key, Predictor], threshold: float
) -> list[QualityChange]:
    """Compare the networks and files of all other variants with what stands for a reference, as savings do.

    Args:
        reference: Id of the reference.
        variants: All variants.
        predictors: Their predictions.
        threshold: Confidence from which on a prediction is accepted.
    """
    by_id = {variant.id: variant for variant in variants}
    stands = base_file(by_id[reference])
    base = predictors.get((reference, stands.runtime, stands.precision))
    others = [
        predictors[key]
        for variant in variants
        for file in files_of(variant)
        if variant.id != reference and (key := (variant.id, file.runtime, file.precision)) in predictors
    ]
    return compare(base, others, threshold) if base else []


def compare(reference: Predictor, others: Sequence[Predictor], threshold: float) -> list[QualityChange]:
    """Compare predictions with those of a reference on the same test images."""
    base = reference.scores
    shifts = {
        "nll": _shifts([mean_difference(base.nll, each.scores.nll) for each in others]),
        "brier": _shifts([mean_difference(base.brier, each.scores.brier) for each in others]),
        "ece": _shifts([ece_difference(reference.calibration, each.calibration) for each in others]),
    }
    return [
        _change(reference, each, {name: found[row] for name, found in shifts.items()}, threshold)
        for row, each in enumerate(others)
    ]


def _shifts(estimates: Sequence[Estimate]) -> list[Shift]:
    """Decide which of the changes of one score are shown to be for the worse; equal ones count as one comparison."""
    tested = list(dict.fromkeys(estimates))
    adjusted = dict(zip(tested, holm([each.p_above_zero for each in tested]), strict=True))
    return [Shift(difference=each.value, ci95=each.interval, worse=adjusted[each] <= LEVEL) for each in estimates]


def _change(reference: Predictor, variant: Predictor, shifts: dict[str, Shift], threshold: float) -> QualityChange:
    base, own = reference.scores, variant.scores
    pairs = class_pairs(reference, variant)
    balanced, shift = balanced_difference(pairs), mean_difference(base.confidence, own.confidence)
    lost, gained = _classes(variant.data.classes, pairs)
    return QualityChange(
        reference=reference.variant,
        reference_runtime=reference.runtime,
        variant=variant.variant,
        runtime=variant.runtime,
        precision=variant.precision,
        **shifts,
        mean_confidence=shift.value,
        mean_confidence_ci95=shift.interval,
        reference_threshold=_thresholded(accept(base, threshold)),
        same_threshold=_thresholded(accept(own, threshold)),
        fitted_threshold=_fitted(reference, variant, threshold),
        balanced_difference=balanced.difference,
        balanced_difference_ci95=(balanced.low, balanced.high),
        lost=tuple(lost[:MAX_CLASSES]),
        lost_left_out=max(0, len(lost) - MAX_CLASSES),
        gained=gained,
    )


def class_pairs(reference: Predictor, variant: Predictor) -> list[ClassPair]:
    """Count by class the images that only one of the two classifies correctly."""
    base, own = reference.scores.correct, variant.scores.correct
    counts = (variant.by_class(rows) for rows in (base & ~own, ~base & own, np.ones_like(base)))
    return [ClassPair(*row) for row in zip(*counts, strict=True)]


def _classes(names: Sequence[str], pairs: Sequence[ClassPair]) -> tuple[list[ClassLoss], int]:
    """Return the classes that are shown to have lost, the most first, and the number of those shown to have gained."""
    lost, gained = [], 0
    for name, pair, p_value in zip(names, pairs, adjusted_by_class(pairs), strict=True):
        if p_value > LEVEL:
            continue
        paired = paired_difference(pair.only_reference, pair.only_variant, pair.images)
        if paired.difference < 0:
            gained += 1
            continue
        ends = (paired.low, paired.high)
        lost.append(
            ClassLoss(name=name, images=pair.images, difference=paired.difference, ci95=ends, p_adjusted=p_value)
        )
    return sorted(lost, key=lambda each: -each.difference), gained


def _fitted(reference: Predictor, variant: Predictor, threshold: float) -> Thresholded | None:
    """Return the variant at the threshold that gives it the reference's precision on the validation images."""
    base, own = reference.validation_scores, variant.validation_scores
    if base is None or own is None or (precision := accept(base, threshold).precision) is None:
        return None
    fitted = threshold_for(own, precision)
    return None if fitted is None else _thresholded(accept(variant.scores, fitted))


def _thresholded(accepted: Accepted) -> Thresholded:
    return Thresholded(
        threshold=accepted.threshold,
        accepted=accepted.images / accepted.of,
        precision=accepted.precision,
        precision_ci95=wilson(accepted.correct, accepted.images) if accepted.images else None,
    )
