"""Cost of a network per image: MACs counted, and time measured on this machine."""

from __future__ import annotations

import time
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path

import torch
from torch import nn

from compress.data.prepared import ImageData
from compress.measurement.batch_size import BatchSize
from compress.measurement.compute import macs, training_macs
from compress.measurement.device import choose_device, on_device
from compress.models.heads import classifiers
from compress.models.own import load_own_model
from compress.models.students import load_student
from compress.models.teachers import LoadedTeacher, load_teacher
from compress.recipe.models import Student
from compress.recipe.schema import Recipe
from compress.stages.costs import NetworkCost, Use
from compress.stages.kind import StageKind
from compress.stages.model import ModelStage
from compress.stages.teacher import TeacherStage
from compress.training.dead_taps import without_dead_taps
from compress.training.formats import FormatChooser, choose_for_steps
from compress.training.teacher_cache import embedding_speedup
from compress.utils.errors import CompressError

TIMED_BATCH = 32  # images per timed pass


def existing_cost(recipe: Recipe, stage: StageKind, data: ImageData, use: Use, speeds: Path) -> NetworkCost:
    """Count and time a teacher or an own model at its input resolution; `speeds` keeps timings of formats."""
    if isinstance(stage, TeacherStage):
        teacher = load_teacher(stage.teacher, recipe.data, data.classes, data.resolution)
        if teacher.architecture is None:  # an ensemble
            return _inference_cost(teacher.classifier(), teacher, use, recipe, stage, speeds)
        network = teacher.network()
    else:
        assert isinstance(stage, ModelStage)
        network, _ = load_own_model(stage.model, recipe.data, data.classes, data.resolution)
        teacher = LoadedTeacher(network.classifier, nn.Identity(), network.preprocess, network.architecture)
    model, side = network.classifier, network.architecture.resolution
    if use in ("training", "masked"):
        return _training_cost(model, side, recipe, speeds, stage.id, masked=use == "masked")
    return _inference_cost(model, teacher, use, recipe, stage, speeds)


def _inference_cost(
    model: nn.Module, teacher: LoadedTeacher, use: Use, recipe: Recipe, stage: TeacherStage | ModelStage, speeds: Path
) -> NetworkCost:
    side = teacher.preprocess.resolution
    seconds = _seconds_per_image(model, side, recipe, train=False)
    if use == "embedding":
        seconds /= embedding_speedup(teacher, stage.batch, FormatChooser(speeds), choose_device(recipe.trainer))
    with torch.no_grad():
        width = teacher.tower.eval()(torch.zeros(1, 3, side, side)).shape[1]
    return NetworkCost(macs(model, side), 0, seconds, width)


def student_cost(
    recipe: Recipe, student: Student, data: ImageData, speeds: Path, *, masked: bool, width: int = 0
) -> NetworkCost:
    """Count and time training of a student; with `masked` weights, all convolution taps are computed.

    With a `width`, it ends in an embedding of so many values, and the frozen class list multiplies it: forward, and
    backward to the embedding.
    """
    outputs = [str(number) for number in range(width)] if width else data.classes
    network, _ = load_student(student, outputs, data.resolution)
    side = network.architecture.resolution
    cost = _training_cost(network.model, side, recipe, speeds, f"student {student.model}", masked=masked)
    listed = width * len(data.classes)
    return cost._replace(forward=cost.forward + listed, training=cost.training + 2 * listed)


def _training_cost(
    model: nn.Module, side: int, recipe: Recipe, speeds: Path, label: str, *, masked: bool
) -> NetworkCost:
    forward, trainer = macs(model, side), recipe.trainer
    with nullcontext() if masked else without_dead_taps(model, side):
        seconds = _seconds_per_image(model, side, recipe, train=True)
        if trainer.precision == "auto" and not trainer.several_processes:
            device = choose_device(trainer)
            seconds /= choose_for_steps(
                FormatChooser(speeds), model, side, TIMED_BATCH, device, label, tf32=trainer.tf32
            ).speedup
        return NetworkCost(forward, training_macs(model, side), seconds, features=_features(model, side))


def _features(model: nn.Module, side: int) -> int:
    """Return the inputs of the classifier; 0 where that is no linear layer, on whose features no loss is defined."""
    heads: list[nn.Module] = []
    with suppress(CompressError):  # it has none
        heads = list(classifiers(model, side).values())
    return heads[0].in_features if len(heads) == 1 and isinstance(heads[0], nn.Linear) else 0


def _seconds_per_image(model: nn.Module, side: int, recipe: Recipe, *, train: bool) -> float:
    """Time a network by passes of `TIMED_BATCH` images, or of as many as fit into a GPU's memory."""
    device = choose_device(recipe.trainer)
    with on_device(model.train(train), device):
        return BatchSize(TIMED_BATCH, "timing", device).fit(partial(_timed, model, side, device, train))


def _timed(model: nn.Module, side: int, device: torch.device, train: bool, batch: int) -> float:
    """Return the seconds per image of the fastest of three passes."""
    images = torch.zeros(batch, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        with torch.set_grad_enabled(train):
            outputs = model(images)
            if train:
                outputs.square().mean().backward()
        float(outputs.detach().sum())  # synchronizes with the device
        times.append(time.perf_counter() - started)
    return min(times) / batch
