"""Networks in PyTorch, and files in their runtimes, on further images of a run: corrupted ones, and OOD images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.data.corruptions import CorruptedImages, conditions
from compress.data.ood import OodImages
from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.deployment.artifact import load_classifier
from compress.deployment.runtime import Runner
from compress.deployment.runtimes import find_runtime
from compress.efficiency.ood import ood_scores
from compress.measurement.device import on_device
from compress.measurement.predict import Logits, predict_split, predict_split_in_runtime
from compress.registry import PYTORCH
from compress.results.stored import predictions_file, runnable_artifacts
from compress.stages.context import StageContext
from compress.stages.export.logits import BATCH
from compress.stages.planned import PlannedStage
from compress.utils.boundaries import boundary
from compress.utils.console import task
from compress.utils.errors import CompressError
from compress.utils.precision import file_name

Predict = Callable[[Split], Logits]
Rows = Iterable[NDArray[Any]]


def predict_corrupted(context: StageContext, planned: PlannedStage, folder: Path) -> None:
    """Classify the test images under every corruption, by the network of a variant or by each file of an export.

    Writes the predicted classes of each, int32 `[1 + conditions, images]`, those of the images before they are
    corrupted first. What a killed run has finished is kept.
    """
    test, wanted = context.data.test, conditions(context.recipe.measure.corruption_names)

    def rows(predict: Predict) -> Rows:
        yield predict(test).argmax(1).astype(np.int32)
        for corruption, severity in wanted:
            images = CorruptedImages(test.images, corruption, severity, context.recipe.seed)
            yield predict(Split(images, test.labels)).argmax(1).astype(np.int32)

    _evaluate(context, planned, folder, "corruptions", 1 + len(wanted), rows)


def score_ood(context: StageContext, planned: PlannedStage, ood: OodImages, folder: Path) -> None:
    """Score the test images and the OOD images, by the network of a variant or by each file of an export.

    Both are the stored images, also for a network whose own preprocessing is for the original files: it must not tell
    them by how they were resized. Writes the scores of each, float64 `[2, test images + OOD images]`, as `ood_scores`.

    Raises:
        CompressError: logits of an image are not finite.
    """
    test = context.data.test

    def rows(predict: Predict) -> Rows:
        try:
            found = [ood_scores(predict(split)) for split in (test, Split(ood.images, None))]
        except ValueError as error:
            raise CompressError(f"{planned.id}: on test images or those of measure.ood, {error}") from error
        yield from np.concatenate(found, axis=1)

    _evaluate(context, planned, folder, "OOD images", 2, rows)


def _evaluate(
    context: StageContext, planned: PlannedStage, folder: Path, what: str, count: int, rows: Callable[[Predict], Rows]
) -> None:
    """Store `count` rows of the network of a variant, or of each file of an export."""
    save = partial(_save, folder, what, count, rows)
    model, preprocess = context.classifier(planned.id if planned.makes_variant else planned.parent or "")
    stored = preprocess.on_stored()
    if planned.makes_variant:
        device = context.device_for(model)
        with on_device(model, device):
            size = context.batch_size(device)
            save(planned.id, PYTORCH, lambda split: predict_split(model, stored, split, size))
        return
    for artifact, path in runnable_artifacts(context.folder(planned.id)):
        name = file_name(artifact.runtime, artifact.precision)
        if predictions_file(folder, name).exists():
            continue
        with boundary("runtime", f"{planned.parent} in {name}"):
            run = load_classifier(find_runtime(artifact.runtime), path)
            save(planned.parent or "", name, partial(_predict_in_runtime, run, stored))


def _predict_in_runtime(run: Runner, stored: Preprocess, split: Split) -> Logits:
    return predict_split_in_runtime(run, stored, split, BATCH)


def _save(
    folder: Path, what: str, count: int, rows: Callable[[Predict], Rows], variant: str, name: str, predict: Predict
) -> None:
    path = predictions_file(folder, name)
    if path.exists():
        return
    found = []
    with task(f"{variant} in {name}: {what}", count) as advance:
        for row in rows(predict):
            found.append(row)
            advance()
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    np.save(scratch / path.name, np.stack(found))
    (scratch / path.name).replace(path)
