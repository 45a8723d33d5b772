"""Predictions beyond top-1, of every network and file, from their stored logits; no network runs. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from compress.data.prepared import ImageData
from compress.efficiency.confidence import (
    Calibration,
    Scores,
    calibration,
    image_scores,
    mean_of,
    reliability_bins,
)
from compress.efficiency.files import FileKey
from compress.efficiency.intervals import wilson
from compress.efficiency.per_class import MIN_CLASSES_FOR_TOP5, TOP, balanced_accuracy
from compress.measurement.accuracy import bits
from compress.pipeline.predictions import Logits, Predictions
from compress.registry import PYTORCH
from compress.results.quality import (
    ClassRecall,
    Confidence,
    Quality,
    ReliabilityBin,
)
from compress.results.stored import logits_file, runnable_artifacts
from compress.results.variant import Variant
from compress.stages.planned import Plan
from compress.store.store import Store

MAX_CLASSES = 20


@dataclass(frozen=True)
class Predictor:
    """A network in PyTorch, or a file in its runtime, with its logits `[images, classes]` of both splits."""

    data: ImageData
    variant: str
    runtime: str
    precision: str | None
    test: Logits
    validation: Logits | None

    @property
    def labels(self) -> NDArray[np.int64]:
        """Labels of the test images, `[images]`."""
        return np.asarray(self.data.test.labels)

    @cached_property
    def scores(self) -> Scores:
        """Scores on the test images."""
        return image_scores(self.test, self.labels)

    @cached_property
    def validation_scores(self) -> Scores | None:
        """Scores on the validation images; None where their logits were not stored."""
        if self.validation is None or not np.isfinite(self.validation).all():
            return None
        return image_scores(self.validation, np.asarray(self.data.validation.labels))

    @cached_property
    def calibration(self) -> Calibration:
        """ECE on the test images."""
        return calibration(self.scores)

    @property
    def key(self) -> FileKey:
        """What distinguishes it from others of the run."""
        return self.variant, self.runtime, self.precision

    def by_class(self, rows: NDArray[np.bool_]) -> list[int]:
        """Count the test images `rows` by class."""
        return [int(count) for count in np.bincount(self.labels[rows], minlength=len(self.data.classes))]


def read_predictors(plan: Plan, store: Store, predictions: Predictions) -> list[Predictor]:
    """Return all networks and the files that were run."""
    data, found = predictions.data, []
    for name, logits in predictions.logits.items():
        found.append(Predictor(data, name, PYTORCH, None, logits, predictions.validation.get(name)))
    for export in plan.exports:
        folder = store.path(export.key)
        for artifact, _ in runnable_artifacts(folder):
            test, validation = (logits_file(folder, artifact, split) for split in ("test", "validation"))
            own = np.load(validation, mmap_mode="r") if validation.exists() else None
            logits = np.load(test, mmap_mode="r")
            found.append(Predictor(data, export.parent or "", artifact.runtime, artifact.precision, logits, own))
    return found


def with_quality(variants: Sequence[Variant], predictors: Mapping[FileKey, Predictor]) -> list[Variant]:
    """Return variants with the quality of their predictions, and of those of their files."""

    def of(variant: str, runtime: str, precision: str | None) -> Quality | None:
        predictor = predictors.get((variant, runtime, precision))
        return quality(predictor) if predictor else None

    return [
        variant.model_copy(
            update={
                "quality": of(variant.id, PYTORCH, None),
                "artifacts": tuple(
                    each.model_copy(update={"quality": of(variant.id, each.runtime, each.precision)})
                    for each in variant.artifacts
                ),
            }
        )
        for variant in variants
    ]


def quality(predictor: Predictor) -> Quality:
    """Describe predictions beyond top-1."""
    scores = predictor.scores
    images, correct = predictor.by_class(np.ones_like(scores.correct)), predictor.by_class(scores.correct)
    balanced, ends = balanced_accuracy(correct, images)
    recalls = [
        ClassRecall(name=name, images=n, recall=k / n, ci95=wilson(k, n))
        for name, k, n in zip(predictor.data.classes, correct, images, strict=True)
        if n
    ]
    recalls.sort(key=lambda recall: recall.recall)
    many = len(predictor.data.classes) >= MIN_CLASSES_FOR_TOP5
    rows = top_rows(predictor.test, predictor.labels) if many else None
    return Quality(
        confidence=_confidence(predictor),
        balanced=balanced,
        balanced_ci95=ends,
        classes=tuple(recalls[:MAX_CLASSES]),
        classes_left_out=max(0, len(recalls) - MAX_CLASSES),
        top5=None if rows is None else float(rows.mean()),
        top5_ci95=None if rows is None else wilson(int(rows.sum()), len(rows)),
        top5_right=None if rows is None else bits(rows),
    )


def _confidence(predictor: Predictor) -> Confidence:
    scores, found = predictor.scores, predictor.calibration
    over = mean_of(scores.gaps)
    return Confidence(
        nll=float(scores.nll.mean()),
        brier=float(scores.brier.mean()),
        ece=found.ece,
        ece_ci95=found.interval,
        ece_plug_in=found.plug_in,
        mean=float(scores.confidence.mean()),
        overconfidence=over.value,
        overconfidence_ci95=over.interval,
        bins=tuple(
            ReliabilityBin(images=bin.images, confidence=bin.confidence, accuracy=bin.accuracy)
            for bin in reliability_bins(scores)
        ),
    )


def top_rows(logits: Logits, labels: NDArray[np.int64], top: int = TOP) -> NDArray[np.bool_]:
    """Return whether fewer than `top` classes have larger logits than the label, `[images]`.

    Of classes with the same logit the first comes first, as in `argmax`.
    """
    own = logits[np.arange(len(labels)), labels][:, None]
    before = np.arange(logits.shape[1]) < labels[:, None]
    return np.asarray(((logits > own) | ((logits == own) & before)).sum(1) < top)
