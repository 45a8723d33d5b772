"""Logits of files in their runtimes, which an export stores for the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compress.data.preprocess import Preprocess
from compress.measurement.predict import Logits, Runner, predict_split_in_runtime
from compress.models.class_list import ClassList
from compress.results import Artifact
from compress.results.stored import logits_file
from compress.stages.context import StageContext
from compress.utils.errors import CompressError
from compress.utils.precision import HALF, file_name

BATCH = 50  # batch size of evaluation in a runtime


def store_logits(
    context: StageContext,
    run: Runner,
    split: str,
    preprocess: Preprocess,
    artifact: Artifact,
    folder: Path,
    classes: ClassList | None = None,
) -> tuple[Logits, Logits]:
    """Compute the logits of a file on a split, and store them in the folder of the export; return its outputs too.

    The outputs of a file with a class list are embeddings.
    """
    images, preprocess = context.rendered(split, preprocess)
    label = f"{file_name(artifact.runtime, artifact.precision)}: {split} images"
    outputs = predict_split_in_runtime(run, preprocess, images, BATCH, progress=label)
    logits = classes.logits(outputs) if classes else outputs
    path = logits_file(folder, artifact, split)
    path.parent.mkdir(exist_ok=True)
    np.save(path, logits)
    return logits, outputs


def outputs_in(context: StageContext, run: Runner, preprocess: Preprocess, split: str) -> Logits:
    """Return the outputs of a file for a split."""
    images, preprocess = context.rendered(split, preprocess)
    return predict_split_in_runtime(run, preprocess, images, BATCH)


def require_finite(logits: Logits, images: str, precision: str | None = None) -> Logits:
    """Return the logits of images; those that are not finite, of which the largest says nothing, are refused.

    Raises:
        CompressError: some are not finite; in half precision, with what to do.
    """
    finite = np.isfinite(logits).all(1)
    if finite.all():
        return logits
    overflow = (
        f": an activation overflows in {precision}; export the network in fp32, or in bf16, which has FP32's range"
        if precision in HALF
        else ""
    )
    raise CompressError(f"non-finite logits on {(~finite).sum():,} of {len(logits):,} {images}{overflow}")
