"""Artifacts on people's images: what they say of each, and how often they are right."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compress.data.files import ENDINGS
from compress.data.tree import endings, image_files, listed, subfolders
from compress.deployment.artifact import BATCH, Artifact, softmax
from compress.deployment.inputs import decoded
from compress.errors import CompressError, UsageError
from compress.measurement.accuracy import accuracy_record
from compress.progress import task

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
            probabilities = softmax(artifact.answer(block.pixels))
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


def evaluate(artifact: Artifact, data: Path) -> Record:
    """How often an artifact is right about images that lie in one folder a class, matched to its classes by name.

    Args:
        artifact: What classifies.
        data: The folder with the class folders.

    Returns:
        `{artifact, runtime, data, accuracy: {top1, correct, n, ci95, split}, classes: [{class, correct, n, top1}],
        unreadable: [{image, reason}], left_out: [{folder, images}], seconds, images_per_s, runtime_images_per_s}`.
        Images that cannot be read and folders that are no class are left out of the accuracy; a class without images
        has a `top1` of None. `images_per_s` is with reading and decoding, `runtime_images_per_s` the network alone.

    Raises:
        UsageError: there is no such folder, none of its folders is a class, or they hold no image.
        CompressError: no image can be read, a folder cannot be read, or the runtime fails.
    """
    files, labels, left_out = _labelled(artifact, data)
    predicted, unreadable, in_runtime = np.full(len(files), -1), [], 0.0
    started = time.perf_counter()
    with task("images", len(files)) as advance:
        for block in decoded(artifact.preprocess, files, BATCH):
            unreadable += [{"image": str(files[row]), "reason": reason} for row, reason in block.broken.items()]
            if block.rows:
                before = time.perf_counter()
                predicted[list(block.rows)] = artifact.answer(block.pixels).argmax(1)
                in_runtime += time.perf_counter() - before
            advance(len(block.rows) + len(block.broken))
    seconds = time.perf_counter() - started
    read = predicted >= 0
    if not read.any():
        first = unreadable[0]
        raise CompressError(f"{data}: none of {len(files)} images can be read: {first['image']} ({first['reason']})")
    return {
        "artifact": str(artifact.path),
        "runtime": artifact.runtime,
        "data": str(data),
        "accuracy": accuracy_record(predicted[read], labels[read], data.resolve().name),
        "classes": _by_class(artifact, predicted[read], labels[read]),
        "unreadable": unreadable,
        "left_out": left_out,
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


def _labelled(artifact: Artifact, data: Path) -> tuple[list[Path], np.ndarray[Any, Any], list[Record]]:
    """Files, their labels, and what else lies in the folder."""
    if not data.is_dir():
        raise UsageError(f"{data}: {'a file, not a folder' if data.exists() else 'no such folder'}")
    # One file system keeps an accent in its letter, another beside it.
    numbers = {_name(name): label for label, name in enumerate(artifact.classes)}
    there = subfolders(data)
    known = [name for name in there if _name(name) in numbers]
    if not known:
        part = next((part for part in there if {_name(n) for n in subfolders(data / part)} & set(numbers)), None)
        hint = f"; did you mean {data / part}?" if part else ""
        raise UsageError(
            f"{data} has no folder of a class ({listed(list(artifact.classes))}), it has {listed(there)}{hint}"
        )
    files = {name: list(image_files(data / name)) for name in there}
    labels = np.array([numbers[_name(name)] for name in known for _ in files[name]], np.int64)
    if not labels.size:
        raise UsageError(f"{data} holds no image in the folders of its classes ({endings()})")
    left_out = [{"folder": name, "images": len(files[name])} for name in there if name not in known]
    loose = sum(file.suffix.lower() in ENDINGS and file.is_file() for file in data.iterdir())
    if loose:
        left_out.append({"folder": ".", "images": loose})
    return [file for name in known for file in files[name]], labels, left_out


def _name(text: str) -> str:
    return unicodedata.normalize("NFC", text)
