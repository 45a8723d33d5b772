"""Cost of a network per image: MACs counted, and time measured on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import nn

from compress.measurement.compute import macs, training_macs
from compress.models.students import create_student
from compress.models.teachers import load_teacher
from compress.recipe.models import ClassifierTeacher, OpenClipTeacher, Student
from compress.recipe.schema import Recipe
from compress.stages.costs import NetworkCost
from compress.training.dead_taps import without_dead_taps


def teacher_cost(
    recipe: Recipe, teacher: OpenClipTeacher | ClassifierTeacher, classes: Sequence[str], resolution: int
) -> NetworkCost:
    """Count and time a teacher at its input resolution."""
    loaded = load_teacher(teacher, recipe.data, classes, resolution)
    model, side = loaded.classifier(), loaded.preprocess.resolution
    return NetworkCost(macs(model, side), 0, _seconds_per_image(model, side, recipe, train=False))


def student_cost(recipe: Recipe, student: Student, classes: int, side: int, *, masked: bool) -> NetworkCost:
    """Count and time training of a student; with `masked` weights, all convolution taps are computed."""
    model = create_student(student, classes, side)
    forward = macs(model, side)
    with nullcontext() if masked else without_dead_taps(model, side):
        seconds = _seconds_per_image(model, side, recipe, train=True)
        return NetworkCost(forward, training_macs(model, side), seconds)


def _seconds_per_image(model: nn.Module, side: int, recipe: Recipe, *, train: bool, batch: int = 32) -> float:
    on_gpu = torch.cuda.is_available() and recipe.trainer.accelerator != "cpu"
    device = torch.device("cuda" if on_gpu else "cpu")
    model.train(train).to(device)
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
    model.cpu()
    return min(times) / batch
