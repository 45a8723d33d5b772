"""Predictions of networks in PyTorch, and of files in their runtimes, on corrupted test images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from compress.data.corruptions import CorruptedImages, conditions
from compress.data.prepared import Split
from compress.deployment.artifact import load_classifier
from compress.deployment.runtimes import find_runtime
from compress.efficiency.files import PYTORCH
from compress.measurement.device import on_device
from compress.measurement.predict import Logits, predict_split, predict_split_in_runtime
from compress.results.stored import predictions_file, runnable_artifacts
from compress.stages.context import StageContext
from compress.stages.export.logits import BATCH
from compress.stages.planned import PlannedStage
from compress.utils.boundaries import boundary
from compress.utils.console import task
from compress.utils.precision import file_name


def predict_corrupted(context: StageContext, planned: PlannedStage, folder: Path) -> None:
    """Classify the test images under every corruption, by the network of a variant or by each file of an export.

    Writes the predicted classes of each, int32 `[conditions, images]`, those of the images before they are corrupted
    first. What a killed run has finished is kept.
    """
    if planned.makes_variant:
        _of_network(context, planned.id, folder)
    else:
        _of_files(context, planned, folder)


def _of_network(context: StageContext, variant: str, folder: Path) -> None:
    model, preprocess = context.classifier(variant)
    stored, device = preprocess.on_stored(), context.device_for(model)
    with on_device(model, device):
        size = context.batch_size(device)
        _store(context, f"{variant} in {PYTORCH}", lambda s: predict_split(model, stored, s, size), folder, PYTORCH)


def _of_files(context: StageContext, planned: PlannedStage, folder: Path) -> None:
    assert planned.parent
    _, preprocess = context.classifier(planned.parent)
    stored = preprocess.on_stored()
    for artifact, path in runnable_artifacts(context.folder(planned.id)):
        name = file_name(artifact.runtime, artifact.precision)
        if predictions_file(folder, name).exists():
            continue
        with boundary("runtime", f"{planned.parent} in {name}"):
            run = load_classifier(find_runtime(artifact.runtime), path)
            what = f"{planned.parent} in {name}"
            _store(context, what, lambda s, run=run: predict_split_in_runtime(run, stored, s, BATCH), folder, name)  # type: ignore[misc]


def _store(context: StageContext, what: str, predict: Callable[[Split], Logits], folder: Path, name: str) -> None:
    """Classify the test images under all conditions, and store the predicted classes."""
    test, wanted = context.data.test, conditions(context.recipe.measure.corruption_names)
    path = predictions_file(folder, name)
    if path.exists():
        return
    found = np.empty((1 + len(wanted), len(test)), np.int32)
    with task(f"{what}: corruptions", len(found)) as advance:
        found[0] = predict(test).argmax(1)
        advance()
        for row, (corruption, severity) in enumerate(wanted, 1):
            images = CorruptedImages(test.images, corruption, severity, context.recipe.seed)
            found[row] = predict(Split(images, test.labels)).argmax(1)
            advance()
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    np.save(scratch / path.name, found)
    (scratch / path.name).replace(path)
