"""Classifying images with an artifact, and evaluating it on labelled ones."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from compress.data.left_out import Tally, left_out_line
from compress.data.tree import endings, image_files
from compress.deployment.artifact import BATCH_SIZE, Artifact
from compress.deployment.eval_data import LabelledImages, LeftOut, find_labelled
from compress.deployment.preprocess import decode_blocks
from compress.deployment.runtime import Array
from compress.efficiency.verdict import Verdict, decide, share
from compress.measurement.accuracy import accuracy_record, softmax
from compress.utils.console import task
from compress.utils.errors import CompressError, UsageError

ClassProbability = TypedDict("ClassProbability", {"class": str, "probability": float})
ClassAccuracy = TypedDict("ClassAccuracy", {"class": str, "correct": int, "n": int, "top1": float | None})


class Prediction(TypedDict):
    """The most probable classes of one image; None with an `error` where it cannot be read."""

    image: str
    classes: list[ClassProbability] | None
    error: str | None


class UnreadableImage(TypedDict):
    """A file that was left out, and why."""

    image: str
    reason: str


class MinTop1(TypedDict):
    """Whether top-1 is shown to be at least a bound, and if neither is shown, the images that could tell."""

    bound: float
    verdict: Verdict
    images_needed: int | None


class Evaluation(TypedDict):
    """Result of an evaluation.

    `accuracy` leaves out unreadable images and folders without a class of the artifact; a class without images has a
    `top1` of None. `images_per_s` includes reading and decoding. `runtime_images_per_s` is of normalising and running,
    over full batches after the first one, for which a runtime may still compile; over all if there are none.
    """

    artifact: str
    runtime: str
    data: str
    accuracy: Mapping[str, Any]
    classes: list[ClassAccuracy]
    unreadable: list[UnreadableImage]
    left_out: list[LeftOut]
    other_files: list[dict[str, object]]
    seconds: float
    images_per_s: float
    runtime_images_per_s: float
    min_top1: NotRequired[MinTop1]


def predict(
    artifact: Artifact, paths: Sequence[Path], top: int = 3, tally: Tally | None = None
) -> Iterator[Prediction]:
    """Classify files, and all images below folders, in the order in which they are named; of each image the `top`
    most probable classes. What of the folders is left out is counted in `tally` before anything is classified.

    Raises:
        UsageError: a path does not exist, or a folder has no images; raised before anything is classified.
        CompressError: the system cannot read a folder, or the runtime fails.
    """
    files = [file for path in paths for file in _files(path, tally)]
    return _predict(artifact, files, min(top, len(artifact.classes)))


def _predict(artifact: Artifact, files: Sequence[Path], top: int) -> Iterator[Prediction]:
    for block in decode_blocks(artifact.preprocess, files, BATCH_SIZE):
        rows: dict[int, list[ClassProbability]] = {}
        if block.rows:
            probabilities = softmax(artifact.batch_logits(block.pixels)).astype(np.float32)
            for row, values in zip(block.rows, probabilities, strict=True):
                best = np.argsort(-values, kind="stable")[:top]
                rows[row] = [{"class": artifact.classes[i], "probability": float(values[i])} for i in best]
        for row in sorted([*rows, *block.broken]):
            yield Prediction(image=str(files[row]), classes=rows.get(row), error=block.broken.get(row))


def _files(path: Path, tally: Tally | None) -> list[Path]:
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder")
    if not path.is_dir():
        return [path]
    own = Tally()
    files = list(image_files(path, tally=own))
    if not files:
        there = left_out_line(own.rows())
        raise UsageError(f"{path} has no images ({endings()})" + (f", only {there}" if there else ""))
    if tally is not None:
        tally.extend(own.rows())
    return files


def evaluate(artifact: Artifact, data: Path | str | LabelledImages, min_top1: float | None = None) -> Evaluation:
    """Measure the accuracy of an artifact on labelled images, or on those that `find_labelled` finds in `data`.

    With `min_top1`, a fraction, the record says whether top-1 is shown to be at least that.

    Raises:
        UsageError: there are no such images, or none of the artifact's classes is among them.
        CompressError: no image or no folder can be read, or the runtime fails.
    """
    labelled = data if isinstance(data, LabelledImages) else find_labelled(artifact.classes, data)
    where = labelled.split if isinstance(data, LabelledImages) else str(data)
    images, labels = labelled.images, labelled.labels
    predicted, batches = np.full(len(images), -1), list[tuple[int, float]]()  # images and seconds of each batch
    unreadable: list[UnreadableImage] = []
    started = time.perf_counter()
    with task("images", len(images)) as advance:
        for block in decode_blocks(artifact.preprocess, images, BATCH_SIZE):
            unreadable += [UnreadableImage(image=str(images[row]), reason=why) for row, why in block.broken.items()]
            if block.rows:
                before = time.perf_counter()
                predicted[list(block.rows)] = artifact.batch_logits(block.pixels).argmax(1)
                batches.append((len(block.rows), time.perf_counter() - before))
            advance(len(block.rows) + len(block.broken))
    seconds = time.perf_counter() - started
    read = predicted >= 0
    if not read.any():
        first = unreadable[0]
        raise CompressError(f"{where}: none of {len(images)} images can be read: {first['image']} ({first['reason']})")
    record = Evaluation(
        artifact=str(artifact.path),
        runtime=artifact.runtime,
        data=where,
        accuracy=accuracy_record(predicted[read], labels[read], labelled.split),
        classes=_by_class(artifact, predicted[read], labels[read]),
        unreadable=unreadable,
        left_out=labelled.left_out,
        other_files=[asdict(row) for row in labelled.other_files],
        seconds=seconds,
        images_per_s=int(read.sum()) / seconds,
        runtime_images_per_s=_rate(batches),
    )
    if min_top1 is not None:
        record["min_top1"] = _at_least(int((predicted[read] == labels[read]).sum()), int(read.sum()), min_top1)
    return record


def _rate(batches: Sequence[tuple[int, float]]) -> float:
    """Images per second of full batches after the first; of all batches if there are none."""
    timed = [(count, seconds) for count, seconds in batches[1:] if count == BATCH_SIZE] or batches
    return sum(count for count, _ in timed) / sum(seconds for _, seconds in timed)


def _at_least(correct: int, n: int, bound: float) -> MinTop1:
    decision = decide(share(correct, n, ""), ">=", bound)
    return MinTop1(bound=bound, verdict=decision.verdict, images_needed=decision.images_needed)


def _by_class(artifact: Artifact, predicted: Array, labels: Array) -> list[ClassAccuracy]:
    rows: list[ClassAccuracy] = []
    for label, name in enumerate(artifact.classes):
        n, correct = int((labels == label).sum()), int(((labels == label) & (predicted == label)).sum())
        rows.append({"class": name, "correct": correct, "n": n, "top1": correct / n if n else None})
    return rows
