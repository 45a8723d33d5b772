"""What is looked at in the prepared data before anything is trained on it. Imports no torch."""

from __future__ import annotations

import numpy as np

from compress.data.leakage import ALLOW, find_overlaps, overlap_remarks, refuse_test_overlap
from compress.data.prepared import ImageData, prepare
from compress.recipe.schema import QuantizeStage, Recipe
from compress.store.store import Store
from compress.utils.errors import UsageError
from compress.utils.messages import few

MEANING = {
    "validation": "nothing is chosen by it",
    "test": "the accuracy does not tell how often it is right about it",
}


def check_data(recipe: Recipe, store: Store) -> list[str]:
    """What a reader must know of the data, one sentence each: classes that splits lack, images in two splits.

    Raises:
        UsageError: the data cannot show what it is for: a class without train images, a test or validation split of
            one class, no images that a stage is to be calibrated on, or test images that are learnt from, where the
            recipe does not allow it.
        CompressError: images cannot be read.
    """
    data = prepare(recipe.data, store, recipe.seed)
    for stage in recipe.stages:
        if isinstance(stage, QuantizeStage) and not len(getattr(data, stage.calibrate_on)):
            raise UsageError(f"stage {stage.id}: there are no {stage.calibrate_on} images to calibrate on")
    overlaps = find_overlaps(data, store)
    if ALLOW not in recipe.allow:
        refuse_test_overlap(overlaps, data)
    return [*_absent(data), *overlap_remarks(overlaps, data)]


def _absent(data: ImageData) -> list[str]:
    said = []
    for name in ("train", "validation", "test"):
        labels = getattr(data, name).labels
        missing = np.flatnonzero(np.bincount(np.asarray(labels), minlength=len(data.classes)) == 0)
        if not len(missing):
            continue
        shown = few(data.classes[row] for row in missing)
        if name == "train":
            raise UsageError(f"data: no train image has the class {shown}, so no network can learn it")
        if len(data.classes) - len(missing) < 2:
            raise UsageError(f"data: {name} has images of fewer than two classes, which tells nothing of a classifier")
        said.append(f"No {name} image has the class {shown}: {MEANING[name]}.")
    return said
