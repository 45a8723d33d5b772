"""The compute and time of units to expect, from short timings on this machine."""

from __future__ import annotations

import time
from contextlib import nullcontext

import torch
from torch import nn

from compress.measurement.compute import macs, training_macs
from compress.models.students import create_student
from compress.pipeline.fitting import learnt_from
from compress.pipeline.plan import Unit
from compress.pipeline.work import Work
from compress.recipe.schema import (
    Distillation,
    Fit,
    PruneStage,
    QuantizeStage,
    ShrinkStage,
    SparsifyStage,
)
from compress.training.dead_taps import without_dead_taps
from compress.training.embeddings import view_key

LAYERS = 15  # that can be pruned apart, in a network such as ResNet18
TRIALS, TRIAL_SECONDS = 8, 10.0  # of a search by latency: the file is written, read and timed


class Speeds:
    """Times each network once: MACs an image and seconds an image, forward and in training."""

    def __init__(self, work: Work) -> None:
        self.work = work
        on_gpu = torch.cuda.is_available() and work.recipe.trainer.accelerator != "cpu"
        self.device = torch.device("cuda" if on_gpu else "cpu")
        self._embedded: set[str] = set()
        self._teachers: dict[str, tuple[int, float]] = {}
        self._students: dict[str, tuple[int, int, float]] = {}

    def expect(self, unit: Unit) -> tuple[float, float]:
        """Expected MACs and seconds of a unit."""
        stage, data = unit.stage, self.work.data
        if unit.is_export:
            return 0, 15.0  # the writing of two files, which hardly depends on the network
        if unit.stage.kind == "teacher":
            per_image, seconds = self._teacher(unit.id)
            return per_image * len(data.test.images), seconds * len(data.test.images)
        forward, training, seconds = self._student(unit)
        if isinstance(stage, QuantizeStage) and not stage.training:
            return forward * stage.calibration_images, 20.0
        if isinstance(stage, ShrinkStage):
            return self._as_much_as(unit)
        settings: Fit = getattr(stage, "repair", None) or getattr(stage, "training", None) or stage  # type: ignore[assignment]
        keep = 1.0
        if isinstance(stage, PruneStage):
            latency = stage.target_latency.share if stage.target_latency else 1.0
            keep = stage.rounds * (stage.target_macs or stage.target_params or latency)
        if not unit.teacher or not isinstance(settings, Distillation):
            images = len(data.train.images) * settings.epochs
            return images * training * keep, images * seconds * keep
        images = sum(len(split.images) for split in learnt_from(data, settings)[0]) * settings.epochs
        asked = images if settings.teacher == "live" else self._to_embed(unit.teacher, settings)
        per_image, teacher_seconds = self._teacher(unit.teacher) if asked else (0, 0.0)
        compute = images * training * keep + asked * per_image
        tried = self._tried(stage, forward, seconds) if isinstance(stage, PruneStage) else (0.0, 0.0)
        return compute + tried[0], images * seconds * keep + asked * teacher_seconds + tried[1]

    def _tried(self, stage: PruneStage, forward: int, seconds: float) -> tuple[float, float]:
        """What finding the network takes before it is repaired: each layer pruned alone, and the search by latency."""
        images = stage.rounds * len(stage.analyse) * LAYERS * len(self.work.data.validation.images)
        trials = stage.rounds * TRIALS if stage.target_latency else 0
        return images * forward, images * seconds / 3 + trials * TRIAL_SECONDS

    def _as_much_as(self, unit: Unit) -> tuple[float, float]:
        """What a shrink stage takes: all that the pruned network took, from its first fit on."""
        compute = seconds = 0.0
        while unit.parent and unit.parent != unit.teacher:
            unit = self.work.plan.unit(unit.parent)
            one = self.expect(unit)
            compute, seconds = compute + one[0], seconds + one[1]
        return compute, seconds

    def _to_embed(self, teacher: str, settings: Distillation) -> int:
        """Embeddings that neither the store holds nor an earlier unit of the plan leaves there."""
        splits, views = learnt_from(self.work.data, settings)
        embedder = self.work.embedder(teacher, splits, settings.augment)
        keys = {view_key(embedder, view) for view in range(views)}
        new = {key for key in keys if not self.work.store.has(key)} - self._embedded
        self._embedded |= new
        return len(new) * len(embedder.images)

    def _teacher(self, identifier: str) -> tuple[int, float]:
        if identifier not in self._teachers:
            loaded = self.work.teacher(identifier)
            model, side = loaded.classifier(), loaded.preprocess.resolution
            seconds = _seconds_an_image(model, side, self.device, train=False)
            self._teachers[identifier] = (macs(model, side), seconds)
        return self._teachers[identifier]

    def _student(self, unit: Unit) -> tuple[int, int, float]:
        stage, masked = self.work.plan.first_fit(unit), isinstance(unit.stage, SparsifyStage)
        name = f"{stage.student.model_dump_json()}, {masked}"
        if name not in self._students:
            side = stage.student.resolution or self.work.data.resolution
            model = create_student(stage.student, len(self.work.data.classes), side)
            forward = macs(model, side)
            with nullcontext() if masked else without_dead_taps(model, side):  # masked layers keep all their taps
                seconds = _seconds_an_image(model, side, self.device, train=True)
                self._students[name] = (forward, training_macs(model, side), seconds)
        return self._students[name]


def _seconds_an_image(model: nn.Module, side: int, device: torch.device, *, train: bool, batch: int = 32) -> float:
    model.train(train).to(device)
    images = torch.zeros(batch, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        with torch.set_grad_enabled(train):
            answers = model(images)
            if train:
                answers.square().mean().backward()
        float(answers.detach().sum())  # waits for the device
        times.append(time.perf_counter() - started)
    model.cpu()
    return min(times) / batch
