"""Checks before training starts. Imports no torch."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from compress.data.leakage import ALLOW, bytes_remark, find_overlaps, overlap_remarks, refuse_test_overlap
from compress.data.left_out import LeftOut
from compress.data.prepared import ImageData
from compress.deployment.runtimes import find_runtime, require
from compress.efficiency.per_class import MIN_CLASSES_FOR_TOP5
from compress.recipe.fit import Distillation
from compress.recipe.graph import teacher_of
from compress.recipe.schema import Recipe
from compress.recipe.validate import batch_problems
from compress.stages.kind import StageKind, kind_of
from compress.stages.teacher_inputs import training_views
from compress.store.store import Store
from compress.training.batches import step_images
from compress.utils.errors import CompressError, SeveralErrors, SeveralFailures, UsageError
from compress.utils.messages import truncate_list

CONSEQUENCE = {
    "validation": "checkpoint selection ignores it",
    "test": "the accuracy does not cover it",
}


def check_requirements(recipe: Recipe, stages: Sequence[StageKind], check: Callable[[str], Any] = require) -> None:
    """Check that the runtimes (with `check`, which raises) and quantizers of stages of a recipe are installed.

    Raises:
        CompressError: some are missing or broken; a line for each names the stage and the command that installs it.
    """
    problems: dict[str, CompressError] = {}
    for stage in stages:
        for needed in (*(partial(check, runtime) for runtime in stage.runtimes_used()), partial(stage.require, recipe)):
            try:
                needed()
            except CompressError as error:
                problems.setdefault(f"stage {stage.id}: {error}", error)
    if len(problems) > 1:
        all_usage = all(isinstance(each, UsageError) for each in problems.values())
        raise SeveralErrors(problems) if all_usage else SeveralFailures(problems)
    for text, found in problems.items():
        raise type(found)(text) from found


def check_compilers(recipe: Recipe, stages: Sequence[StageKind]) -> None:
    """Check that there is a C++ compiler if fits with `compile` are on the CPU: torch.compile writes C++ for it.

    Raises:
        CompressError: there is none.
    """
    from compress.measurement.device import choose_device

    compiled = [stage.id for stage in stages if any(fit.compile and fit.epochs for _, fit in stage.fits())]
    if not compiled or choose_device(recipe.trainer).type != "cpu":
        return
    inductor = find_runtime("inductor")
    if absent := [program for program in inductor.programs if shutil.which(program) is None]:
        needs = f"`compile: true` needs {', '.join(absent)}: {inductor.install}; or remove `compile: true`"
        raise CompressError(f"stage {compiled[0]}: {needs}")


def check_sizes(recipe: Recipe, data: ImageData) -> None:
    """Check what the classes and the sizes of the splits tell, which are known before any image is decoded.

    Raises:
        UsageError: a calibration set, or another split that is needed, is empty, or there are too few classes.
    """
    problems = []
    for stage in recipe.stages:
        try:
            kind_of(stage).check_data(data)
        except UsageError as error:
            problems += str(error).splitlines()
    if recipe.worth.metric == "top5" and len(data.classes) < MIN_CLASSES_FOR_TOP5:
        problems.append(
            f"worth.metric: top5 needs at least {MIN_CLASSES_FOR_TOP5} classes, and {data.name} has "
            f"{len(data.classes)}; set it to top1 or balanced"
        )
    if data.held_out is not None and not len(data.held_out):
        names = truncate_list(data.held_names)
        problems.append(f"data.held_out: no test image of {names}; add some to the test split, or hold out others")
    if problems:
        raise SeveralErrors(problems)


def check_data(recipe: Recipe, data: ImageData, store: Store) -> list[str]:
    """Check that the prepared data is suitable for training and evaluation.

    Returns:
        Remarks for the report, one sentence each: how the source is read, classes missing from splits, images in two
        splits.

    Raises:
        UsageError: a class has no train images, a test or validation split has a single class, a calibration set is
            empty, or test images are in other splits and the recipe does not allow it.
        CompressError: images cannot be read.
    """
    check_sizes(recipe, data)
    shared = find_overlaps(data, store)
    if ALLOW not in recipe.allow:
        refuse_test_overlap(shared, data)
    return [*data.notes, *_missing_classes(data), *overlap_remarks(shared, data), *bytes_remark(data)]


def check_batches(recipe: Recipe, made: Collection[str]) -> None:
    """Check that each device has two images of a batch where the network has batch norm, for the stages `made` here.

    Validation does so too, but does not know how many devices `auto` stands for.

    Raises:
        SeveralErrors: some have fewer.
    """
    if problems := list(batch_problems(recipe, made)):
        raise SeveralErrors(problems)


def tail_batches(recipe: Recipe, data: ImageData, made: Collection[str]) -> Iterator[LeftOut]:
    """Count the images that each fit of the stages `made` leaves out of an epoch, since they fill no batch.

    Each epoch leaves out others.
    """
    world = recipe.trainer.least_processes
    for stage in (each for each in recipe.stages if each.id in made):
        for _, fit in kind_of(stage).fits():
            images = len(data.train)
            if isinstance(fit, Distillation) and teacher_of(recipe, stage.id):
                images = sum(map(len, training_views(data, fit)[0]))
            batch = step_images(images, fit.batch, world)
            if fit.epochs and images >= batch and images % batch:
                yield LeftOut("image per epoch", f"{stage.id}: fill no batch", images % batch, "others in each epoch")


def _missing_classes(data: ImageData) -> list[str]:
    lines = []
    for name in ("train", "validation", "test"):
        labels = getattr(data, name).labels
        missing = np.flatnonzero(np.bincount(np.asarray(labels), minlength=len(data.classes)) == 0)
        if not len(missing):
            continue
        names = truncate_list(data.classes[row] for row in missing)
        if name == "train":
            raise UsageError(f"data: no train images of class {names}; add some or remove the class")
        if len(data.classes) - len(missing) < 2:
            raise UsageError(f"data: {name} has fewer than two classes; add images of at least two")
        lines.append(f"No {name} image has the class {names}: {CONSEQUENCE[name]}.")
    return lines
