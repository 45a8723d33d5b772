"""Predictions of networks and files against those of a reference beyond top-1: confidence and classes.

What is shown to be worse is corrected for all files that are compared with the reference: one family is the three
scores of all files, another the classes of all files. Files with the same predictions count as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from compress.efficiency.confidence import (
    MIN_ACCEPTED,
    Accepted,
    Estimate,
    accept,
    ece_difference,
    mean_difference,
    threshold_for,
)
from compress.efficiency.files import FileKey, base_key, file_keys
from compress.efficiency.intervals import MIN_IMAGES, paired_difference, wilson
from compress.efficiency.per_class import LEVEL, ClassPair, adjusted_by_class, balanced_difference, holm
from compress.pipeline.quality import MAX_CLASSES, Predictor
from compress.results.quality import ClassLoss, QualityChange, Shift, Thresholded
from compress.results.variant import Variant

Classes = tuple[ClassPair, ...]


def quality_changes(
    reference: str, variants: Sequence[Variant], predictors: Mapping[FileKey, Predictor], threshold: float
) -> list[QualityChange]:
    """Compare the networks and files of all other variants with what stands for a reference, as savings do.

    Args:
        reference: Id of the reference.
        variants: All variants.
        predictors: Their predictions.
        threshold: Confidence from which on a prediction is accepted.
    """
    base = predictors.get(base_key(reference, variants))
    others = [predictors[key] for key in file_keys(variants) if key[0] != reference and key in predictors]
    return compare(base, others, threshold) if base else []


def compare(reference: Predictor, others: Sequence[Predictor], threshold: float) -> list[QualityChange]:
    """Compare predictions with those of a reference on the same test images."""
    shifts = _shifts([_score_changes(reference, each) for each in others], reference.scores.images)
    pairs = [tuple(class_pairs(reference, each)) for each in others]
    adjusted = adjusted_by_file(pairs)
    return [
        _change(reference, each, shifts[row], pairs[row], adjusted[pairs[row]], threshold)
        for row, each in enumerate(others)
    ]


def adjusted_by_file(files: Sequence[Classes]) -> dict[Classes, list[float]]:
    """Return the p-value that each class of each file has changed, corrected for all; equal files count once."""
    distinct = list(dict.fromkeys(files))
    p_values = iter(adjusted_by_class([pair for file in distinct for pair in file]))
    return {file: [next(p_values) for _ in file] for file in distinct}


def _score_changes(reference: Predictor, variant: Predictor) -> dict[str, Estimate]:
    base, own = reference.scores, variant.scores
    return {
        "nll": mean_difference(base.nll, own.nll),
        "brier": mean_difference(base.brier, own.brier),
        "ece": ece_difference(reference.calibration, variant.calibration),
    }


def _shifts(files: Sequence[Mapping[str, Estimate]], images: int) -> list[dict[str, Shift]]:
    """Decide which changes of the scores of files are shown to be for the worse; equal ones count as one comparison.

    None is below `MIN_IMAGES` images: the standard error of so few is too uncertain for a normal interval.
    """
    tested = list(dict.fromkeys(item for scores in files for item in scores.items()))
    adjusted = dict(zip(tested, holm([each.p_above_zero for _, each in tested]), strict=True))
    enough = images >= MIN_IMAGES
    return [
        {
            name: Shift(difference=each.value, ci95=each.interval, worse=enough and adjusted[name, each] <= LEVEL)
            for name, each in scores.items()
        }
        for scores in files
    ]


def _change(
    reference: Predictor,
    variant: Predictor,
    shifts: Mapping[str, Shift],
    pairs: Classes,
    adjusted: Sequence[float],
    threshold: float,
) -> QualityChange:
    base, own = reference.scores, variant.scores
    balanced = balanced_difference(pairs)
    shift, (lost, gained) = mean_difference(base.confidence, own.confidence), _classes(pairs, adjusted)
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
    return [ClassPair(*row) for row in zip(*counts, variant.data.classes, strict=True)]


def _classes(pairs: Sequence[ClassPair], adjusted: Sequence[float]) -> tuple[list[ClassLoss], int]:
    """Return the classes that are shown to have lost, the most first, and the number of those shown to have gained."""
    lost, gained = [], 0
    for pair, p_value in zip(pairs, adjusted, strict=True):
        if p_value > LEVEL:
            continue
        paired = paired_difference(pair.only_reference, pair.only_variant, pair.images)
        if paired.difference < 0:
            gained += 1
            continue
        ends = (paired.low, paired.high)
        lost.append(
            ClassLoss(name=pair.name, images=pair.images, difference=paired.difference, ci95=ends, p_adjusted=p_value)
        )
    return sorted(lost, key=lambda each: -each.difference), gained


def _fitted(reference: Predictor, variant: Predictor, threshold: float) -> Thresholded | None:
    """Return the variant at the threshold that gives it the reference's precision on the validation images.

    None where the reference accepts fewer than `MIN_ACCEPTED` of these: its precision says next to nothing.
    """
    base, own = reference.validation_scores, variant.validation_scores
    if base is None or own is None or (accepted := accept(base, threshold)).images < MIN_ACCEPTED:
        return None
    fitted = threshold_for(own, accepted.precision or 0.0)
    return None if fitted is None else _thresholded(accept(variant.scores, fitted))


def _thresholded(accepted: Accepted) -> Thresholded:
    return Thresholded(
        threshold=accepted.threshold,
        accepted=accepted.images / accepted.of,
        precision=accepted.precision,
        precision_ci95=wilson(accepted.correct, accepted.images) if accepted.images else None,
    )
