"""Own networks as artifacts: written for runtimes, and evaluated like the artifacts of a run."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compress.api.functional import Labelled, refuse_labels_from, require_labels, split_of
from compress.data.preprocess import Preprocess
from compress.deployment import export as exporting
from compress.deployment.artifact import Artifact, load_artifact
from compress.deployment.eval_data import LabelledImages
from compress.deployment.evaluate import Evaluation
from compress.deployment.evaluate import evaluate as evaluate_artifact
from compress.deployment.preprocess import Inputs
from compress.deployment.preprocess_file import PREPROCESS, preprocess_file
from compress.deployment.runtime import Array
from compress.measurement.compute import evaluating
from compress.registry import PYTORCH
from compress.utils.atomic import partial_path, remove_partials, replace_folder
from compress.utils.checksums import write_sums
from compress.utils.errors import UsageError, first_line
from compress.utils.system import limit_threads

ARTIFACTS = "artifacts"  # what a folder that artifacts are made in is named after, until they are complete


@dataclass(frozen=True)
class EvaluationResult:
    """Accuracy on labelled images.

    Attributes:
        top1: Top-1 accuracy, a fraction.
        ci95: Its 95% interval (Wilson).
        correct: Images classified correctly.
        n: Images, without unreadable ones.
        per_class: Top-1 accuracy by class; None for a class without images.
        images_per_s: Throughput of normalisation and the network, in batches of 32.
        record: All of it, as `compress-model evaluate --json` prints it.
    """

    top1: float
    ci95: tuple[float, float]
    correct: int
    n: int
    per_class: dict[str, float | None]
    images_per_s: float
    record: Evaluation = field(repr=False)


def export(
    model: nn.Module,
    folder: str | Path,
    *,
    preprocess: Preprocess,
    classes: Sequence[str],
    runtimes: Sequence[str] = ("onnxruntime", "openvino"),
    precision: str | None = None,
) -> dict[str, Path]:
    """Write a network as artifacts, each in `folder/FORMAT/` with its `preprocess.json` and `SHA256SUMS`.

    Args:
        model: A float network, or one of `compress.quantize`: pixels `[b, 3, r, r]` to logits `[b, classes]`.
        folder: Parent of the artifacts; those of the same format are replaced once the new ones are complete.
        preprocess: From pictures to the pixels that the network takes.
        classes: Class names, in the order of the outputs.
        runtimes: Names of runtimes; see `compress-model list runtimes`.
        precision: fp32, fp16 or bf16 of a float network; None for fp32, and fp16 for Core ML.

    Returns:
        The file for `compress.load_artifact` by runtime.

    Raises:
        UsageError: a runtime is unknown or does not take this network or precision, the network's outputs are not
            `classes`, or something else is in the place of an artifact.
        CompressError: a package is missing, or the network cannot be exported.
    """
    limit_threads()
    preprocess, folder = _of_pictures(preprocess), Path(folder)
    content = preprocess_file(preprocess, preprocess.resolution, classes)
    for name in runtimes:
        _refuse_foreign(folder / exporting.Target(name, precision).folder)
    partial = partial_path(folder / ARTIFACTS)
    with evaluating(model):
        _check_outputs(model, preprocess, classes)
        remove_partials(folder / ARTIFACTS)
        try:
            built = exporting.export(model, partial, runtimes, content, precision)
            for made in {path.parent for path in built.values()}:
                write_sums(made)
            for made in sorted(partial.iterdir()):
                replace_folder(made, folder / made.name)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return {runtime: folder / path.relative_to(partial) for runtime, path in built.items()}


def _refuse_foreign(place: Path) -> None:
    """Refuse to replace what is no artifact."""
    if not place.is_dir():
        taken = next((each for each in (place, *place.parents) if each.exists() and not each.is_dir()), None)
        if taken:
            raise UsageError(f"{taken} is a file; name another folder for the artifacts")
    elif any(place.iterdir()) and not (place / PREPROCESS).is_file():
        raise UsageError(f"{place} is no artifact: it has no {PREPROCESS}; move it, or name another folder")


def evaluate(
    model: nn.Module | Artifact | str | Path,
    data: Labelled | str | Path,
    *,
    preprocess: Preprocess | None = None,
    classes: Sequence[str] | None = None,
    runtime: str | None = None,
) -> EvaluationResult:
    """Measure the accuracy of a network or an artifact on labelled images.

    Args:
        model: A network, float or of `compress.quantize`, an artifact, or the path of one.
        data: Images uint8 `[n, 3, h, w]` with labels `[n]`, or a folder with one folder per class, or the name of a
            shipped data set.
        preprocess: From pictures to the pixels that a network takes; an artifact has its own.
        classes: Class names of a network, in the order of its outputs; an artifact has its own.
        runtime: Runtime of an artifact that is given as a path; default: the one of its format.

    Raises:
        UsageError: arguments are missing, or the images or the network's outputs do not fit the classes.
        CompressError: the artifact or images cannot be read, or the runtime fails.
    """
    limit_threads()
    own = [name for name, value in (("preprocess", preprocess), ("classes", classes)) if value is not None]
    if not isinstance(model, nn.Module):
        if own:
            raise UsageError(f"an artifact states its own {' and '.join(own)}; remove {'them' if own[1:] else 'it'}")
        artifact = load_artifact(model, runtime) if isinstance(model, str | Path) else model
        return _result(evaluate_artifact(artifact, _labelled(artifact.classes, data)))
    if preprocess is None or classes is None:
        raise UsageError("a network does not state its preprocessing and classes; pass `preprocess` and `classes`")
    with evaluating(model):
        _check_outputs(model, preprocess, classes)
        artifact = _in_this_process(model, preprocess, classes)
        return _result(evaluate_artifact(artifact, _labelled(artifact.classes, data)))


def _result(record: Evaluation) -> EvaluationResult:
    accuracy = record["accuracy"]
    low, high = accuracy["ci95"]
    return EvaluationResult(
        top1=accuracy["top1"],
        ci95=(low, high),
        correct=accuracy["correct"],
        n=accuracy["n"],
        per_class={row["class"]: row["top1"] for row in record["classes"]},
        images_per_s=record["runtime_images_per_s"],
        record=record,
    )


def _labelled(classes: Sequence[str], data: Labelled | str | Path) -> LabelledImages | str | Path:
    if isinstance(data, str | Path):
        return data
    split = split_of(data)
    require_labels(split, "an evaluation")
    refuse_labels_from(split, len(classes))
    assert split.labels is not None
    return LabelledImages("images", [*np.asarray(split.images[:]).transpose(0, 2, 3, 1)], split.labels, [])


def _of_pictures(preprocess: Preprocess) -> Preprocess:
    """State the resize: without one, a recipe's preprocessing is of stored squares, made by another filter."""
    return replace(preprocess, resize=preprocess.geometry.resize)


def _in_this_process(model: nn.Module, preprocess: Preprocess, classes: Sequence[str]) -> Artifact:
    preprocess, side = _of_pictures(preprocess), preprocess.resolution
    inputs = Inputs(
        side,
        preprocess.mean,
        preprocess.std,
        preprocess.interpolation,
        side,
        preprocess.resize,
        preprocess.crop_mode,
    )
    return Artifact(Path(type(model).__name__), PYTORCH, tuple(classes), inputs, lambda images: _run(model, images))


@torch.inference_mode()
def _run(model: nn.Module, images: Array) -> Array:
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    logits: Tensor = model(torch.from_numpy(images).to(device))
    return logits.float().cpu().numpy()


def _check_outputs(model: nn.Module, preprocess: Preprocess, classes: Sequence[str]) -> None:
    """Refuse a network that does not map two images to `[2, classes]`."""
    side = preprocess.resolution
    try:
        shape: list[Any] = list(_run(model, np.zeros((2, 3, side, side), np.float32)).shape)
    except Exception as error:  # whatever a network raises
        raise UsageError(
            f"{type(model).__name__} does not run on [2, 3, {side}, {side}]: {first_line(error)}"
        ) from error
    if shape != [2, len(classes)]:
        raise UsageError(f"two images give outputs {shape}, but there are {len(classes)} classes; correct `classes`")
    if len(set(classes)) < len(classes):
        raise UsageError("class names must be unique")
