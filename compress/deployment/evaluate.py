"""Artifacts on people's images: what they say of each, and how often they are right."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compress.data.tree import endings, image_files
from compress.deployment.artifact import BATCH, Artifact
from compress.deployment.eval_data import labelled
from compress.deployment.preprocess import decoded
from compress.measurement.accuracy import accuracy_record, softmax
from compress.utils.console import task
from compress.utils.errors import CompressError, UsageError

Record = dict[str, Any]


def predict(artifact: Artifact, paths: Sequence[Path], top: int = 3) -> Iterator[Record]:
    """Classify files, and all images below folders, in the order in which they are named.

    Args:
        artifact: What classifies.
        paths: Files and folders.
        top: Classes named of each image, the most probable first.

    Yields:
        `{image, classes: [{class, probability}], error}`; of a file that cannot be read or is no image `classes`
        is None, and else `error` is.

    Raises:
        UsageError: a path does not exist, or a folder holds no image. This is said before anything is classified.
        CompressError: the system does not let a folder be read, or the runtime fails.
    """
    files = [file for path in paths for file in _files(path)]
    return _predict(artifact, files, min(top, len(artifact.classes)))


def _predict(artifact: Artifact, files: Sequence[Path], top: int) -> Iterator[Record]:
    for block in decoded(artifact.preprocess, files, BATCH):
        rows: dict[int, list[Record]] = {}
        if block.rows:
            probabilities = softmax(artifact.answer(block.pixels)).astype(np.float32)
            for row, values in zip(block.rows, probabilities, strict=True):
                best = np.argsort(-values, kind="stable")[:top]
                rows[row] = [{"class": artifact.classes[i], "probability": float(values[i])} for i in best]
        for row in sorted([*rows, *block.broken]):
            yield {"image": str(files[row]), "classes": rows.get(row), "error": block.broken.get(row)}


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder")
    if not path.is_dir():
        return [path]
    files = list(image_files(path))
    if not files:
        raise UsageError(f"{path} holds no image ({endings()})")
    return files


def evaluate(artifact: Artifact, data: Path | str) -> Record:
    """How often an artifact is right about images that are labelled, matched to its classes by name.

    Args:
        artifact: What classifies.
        data: A folder with one folder a class, or the name of a data set: see `labelled`.

    Returns:
        `{artifact, runtime, data, accuracy: {top1, correct, n, ci95, split}, classes: [{class, correct, n, top1}],
        unreadable: [{image, reason}], left_out: [{folder, images}], seconds, images_per_s, runtime_images_per_s}`.
        Images that cannot be read and folders that are no class are left out of the accuracy; a class without images
        has a `top1` of None. `images_per_s` is with reading and decoding, `runtime_images_per_s` the network alone.

    Raises:
        UsageError: there are no such images, or none of the artifact's classes is among them.
        CompressError: no image can be read, a folder cannot be read, or the runtime fails.
    """
    given = labelled(artifact.classes, data)
    images, labels = given.images, given.labels
    predicted, unreadable, in_runtime = np.full(len(images), -1), [], 0.0
    started = time.perf_counter()
    with task("images", len(images)) as advance:
        for block in decoded(artifact.preprocess, images, BATCH):
            unreadable += [{"image": str(images[row]), "reason": reason} for row, reason in block.broken.items()]
            if block.rows:
                before = time.perf_counter()
                predicted[list(block.rows)] = artifact.answer(block.pixels).argmax(1)
                in_runtime += time.perf_counter() - before
            advance(len(block.rows) + len(block.broken))
    seconds = time.perf_counter() - started
    read = predicted >= 0
    if not read.any():
        first = unreadable[0]
        raise CompressError(f"{data}: none of {len(images)} images can be read: {first['image']} ({first['reason']})")
    return {
        "artifact": str(artifact.path),
        "runtime": artifact.runtime,
        "data": str(data),
        "accuracy": accuracy_record(predicted[read], labels[read], given.split),
        "classes": _by_class(artifact, predicted[read], labels[read]),
        "unreadable": unreadable,
        "left_out": given.left_out,
        "seconds": seconds,
        "images_per_s": int(read.sum()) / seconds,
        "runtime_images_per_s": int(read.sum()) / in_runtime,
    }


def _by_class(artifact: Artifact, predicted: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> list[Record]:
    rows = []
    for label, name in enumerate(artifact.classes):
        n, correct = int((labels == label).sum()), int(((labels == label) & (predicted == label)).sum())
        rows.append({"class": name, "correct": correct, "n": n, "top1": correct / n if n else None})
    return rows
