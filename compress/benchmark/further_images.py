"""Networks in PyTorch, and files in their runtimes, on further images of a run: corrupted ones, and OOD images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.data.corruptions import CorruptedImages, conditions
from compress.data.ood import OodImages
from compress.data.prepared import Split
from compress.deployment.artifact import load_classifier
from compress.deployment.runtimes import find_runtime
from compress.efficiency.ood import ood_scores
from compress.measurement.device import on_device
from compress.measurement.predict import Logits, predict_split, predict_split_in_runtime
from compress.results.stored import predictions_file, runnable_artifacts
from compress.stages.context import StageContext
from compress.stages.export.logits import BATCH, require_finite
from compress.stages.planned import PlannedStage
from compress.utils.boundaries import boundary
from compress.utils.console import task
from compress.utils.precision import file_name

Predict = Callable[[Split, str], Logits]
"""Images, and what they are called where a logit of theirs is not finite, to logits."""
Rows = Iterable[NDArray[Any]]


def predict_corrupted(context: StageContext, planned: PlannedStage, name: str, folder: Path) -> None:
    """Classify the test images under every corruption, by the network of a variant or by a file of an export.

    Writes the predicted classes, int32 `[1 + conditions, images]`, those of the images before they are corrupted first.

    Raises:
        CompressError: it cannot be run, or logits of an image are not finite.
    """
    test, wanted = context.data.test, conditions(context.recipe.measure.corruption_names)

    def rows(predict: Predict) -> Rows:
        yield predict(test, "test images").argmax(1).astype(np.int32)
        for corruption, severity in wanted:
            images = CorruptedImages(test.images, corruption, severity, context.recipe.seed)
            what = f"test images under {corruption}, severity {severity}"
            yield predict(Split(images, test.labels), what).argmax(1).astype(np.int32)

    _evaluate(context, planned, name, folder, "corruptions", 1 + len(wanted), rows)


def score_ood(context: StageContext, planned: PlannedStage, name: str, ood: OodImages, folder: Path) -> None:
    """Score the test images and the OOD images, by the network of a variant or by a file of an export.

    Both are the stored images, also for a network whose own preprocessing is for the original files: it must not tell
    them by how they were resized. Writes the scores, float64 `[2, test images + OOD images]`, as `ood_scores`.

    Raises:
        CompressError: it cannot be run, or logits of an image are not finite.
    """
    splits = ((context.data.test, "test images"), (Split(ood.images, None), "images of measure.ood"))

    def rows(predict: Predict) -> Rows:
        yield from np.concatenate([ood_scores(predict(*split)) for split in splits], axis=1)

    _evaluate(context, planned, name, folder, "OOD images", 2, rows)


def _evaluate(
    context: StageContext,
    planned: PlannedStage,
    name: str,
    folder: Path,
    what: str,
    count: int,
    rows: Callable[[Predict], Rows],
) -> None:
    """Store `count` rows of the network of a variant, or of the file `name` of an export."""
    variant, found = planned.id if planned.makes_variant else planned.parent or "", []
    with (
        _predictor(context, planned, variant, name) as predict,
        task(f"{variant} in {name}: {what}", count) as advance,
    ):
        for row in rows(predict):
            found.append(row)
            advance()
    np.save(predictions_file(folder, name), np.stack(found))


@contextmanager
def _predictor(context: StageContext, planned: PlannedStage, variant: str, name: str) -> Iterator[Predict]:
    """Load a network or a file for the stored images; what is not finite has no order, and is refused."""
    if planned.makes_variant:
        model, preprocess = context.classifier(variant)
        device = context.device_for(model)
        with on_device(model, device):
            size = context.batch_size(device)
            yield lambda split, what: require_finite(predict_split(model, preprocess.on_stored(), split, size), what)
        return
    artifacts = runnable_artifacts(context.folder(planned.id))
    files = {file_name(row.runtime, row.precision): (row, path) for row, path in artifacts}
    row, path = files[name]
    stored = context.preprocess(variant).on_stored()
    with boundary("runtime", f"{variant} in {name}"):
        run = load_classifier(find_runtime(row.runtime), path)
        yield lambda split, what: require_finite(
            predict_split_in_runtime(run, stored, split, BATCH), what, row.precision
        )
