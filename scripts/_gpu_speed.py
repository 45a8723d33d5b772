"""The part of `gpu_check` that says how fast fits, embeddings and evaluation are, beside plain loops."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.measurement.device import exact_float32, numerics, on_device
from compress.measurement.predict import predict_split
from compress.models.factory import create_model
from compress.models.teachers import LoadedTeacher, load_teacher
from compress.recipe.data import Views
from compress.recipe.fit import Distillation, Fit
from compress.recipe.load import parse_recipe
from compress.recipe.schema import Trainer
from compress.store.store import Store
from compress.training.dead_taps import without_dead_taps
from compress.training.fit import fit
from compress.training.formats import FormatChooser
from compress.training.module import FitModule
from compress.training.teacher_cache import Embedder, embed_views
from compress.training.teacher_signal import CachedTeacher, OnlineTeacher

if TYPE_CHECKING:
    from _gpu_parts import Result, Setting

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RECIPE = "{name: check, data: cifar10-sample, stages: [{id: teacher, kind: teacher, teacher: embedded}]}"
EPOCHS = 3  # of a fit; the last one is timed
FORMATS = {"fp32": ("32-true", False), "tf32": ("32-true", True), "bf16": ("bf16-mixed", True)}
"""Lightning's precision and whether TF32 is allowed, by the name of a number format."""


@dataclass(frozen=True)
class Job:
    """What is trained, embedded and evaluated."""

    student: nn.Module
    teacher: LoadedTeacher
    split: Split
    side: int
    batch: int
    device: torch.device

    @property
    def preprocess(self) -> Preprocess:
        return Preprocess(resolution=self.side, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))

    @classmethod
    def of(cls, setting: Setting) -> Job:
        side, batch, images = (32, 8, 32) if setting.tiny else (64, 256, 16384)
        student = create_model("timm", "test_resnet" if setting.tiny else "resnet18", 10, side)
        if setting.tiny:
            tower = create_model("timm", "test_resnet", 10, side).eval()
            teacher = LoadedTeacher(tower, nn.Identity(), Preprocess(side, (0.5,) * 3, (0.25,) * 3))  # type: ignore[arg-type]
        else:
            recipe = parse_recipe(RECIPE)
            teacher = load_teacher(recipe.stages[0].teacher, recipe.data, CLASSES, side)  # type: ignore[attr-defined]
        rng = np.random.default_rng(0)
        pixels, labels = rng.integers(0, 256, (images, 3, side, side), np.uint8), rng.integers(0, 10, images)
        return cls(student, teacher, Split(pixels, labels), side, batch, setting.device)


class _LastEpoch(Callback):
    """Images per second of the steps of the last epoch, without its validation."""

    def __init__(self) -> None:
        self.images_per_s = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        wait()
        self.started = time.perf_counter()

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        wait()
        self.images_per_s = trainer.num_training_batches * module.step_images / (time.perf_counter() - self.started)


def wait() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def speed(setting: Setting) -> Result:
    """Measure fits, embeddings and evaluation beside plain loops of the same work."""
    job, found = Job.of(setting), {}
    for name, (precision, tf32) in FORMATS.items():
        if name == "bf16" and setting.tiny:
            continue  # some processors emulate it
        trainer = Trainer.model_validate({"accelerator": setting.device_kind, "precision": precision, "tf32": tf32})
        plain, ours = plain_fit(job, precision, tf32), our_fit(job, Fit(epochs=EPOCHS, batch=job.batch), None, trainer)
        found[f"train_{name}"] = {"plain": plain, "compress": ours, "ratio": ours / plain}
    found |= distillation(job, setting)
    found |= embeddings(job)
    found["evaluation_fp32"] = evaluation(job)
    slow = [name for name, row in found.items() if row.get("ratio", 1) < (0.95 if name.startswith("train") else 0.9)]
    return {"passed": setting.tiny or not slow, "images_per_s": found, "below_goal": slow, "batch": job.batch}


def plain_fit(job: Job, precision: str, tf32: bool) -> float:
    """Return the images per second of a hand-written loop: pixels on the device, shift and flip, SGD, autocast."""
    network, device = copy.deepcopy(job.student), job.device
    with without_dead_taps(network, job.side), numerics(tf32=tf32, autotune=False, deterministic=False):
        network.train().to(device, memory_format=torch.channels_last)
        images = torch.from_numpy(job.split.images).to(device)
        labels = torch.from_numpy(np.asarray(job.split.labels)).to(device)
        optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, nesterov=True)
        seconds = 0.0
        for _ in range(EPOCHS):
            wait()
            started, order = time.perf_counter(), torch.randperm(len(images), device=device)
            for start in range(0, len(images) - job.batch + 1, job.batch):
                rows = order[start : start + job.batch]
                _plain_step(network, optimizer, images[rows], labels[rows], precision == "bf16-mixed")
            wait()
            seconds = time.perf_counter() - started
        return len(images) // job.batch * job.batch / seconds


def _plain_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, bf16: bool
) -> None:
    side = images.shape[-1]
    pixels = (images.float() / 255 - 0.5) / 0.25
    top, left = torch.randint(0, 9, (2,)).tolist()
    pixels = F.pad(pixels, (4, 4, 4, 4), mode="reflect")[:, :, top : top + side, left : left + side]
    pixels = torch.where(torch.rand(len(pixels), 1, 1, 1, device=pixels.device) < 0.5, pixels.flip(3), pixels)
    with torch.autocast(pixels.device.type, torch.bfloat16) if bf16 else nullcontext():
        loss = F.cross_entropy(network(pixels.contiguous(memory_format=torch.channels_last)), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def our_fit(job: Job, settings: Fit, teacher: CachedTeacher | OnlineTeacher | None, trainer: Trainer) -> float:
    """Return the images per second of the steps of a fit, as a stage does it."""
    network, timed = copy.deepcopy(job.student), _LastEpoch()
    few = Split(job.split.images[: job.batch], job.split.labels[: job.batch])  # type: ignore[index]
    with without_dead_taps(network, job.side), tempfile.TemporaryDirectory() as folder:
        module = FitModule(network, job.preprocess, [job.split], few, Views(), settings, teacher, seed=0, image_macs=0)
        fit(module, trainer, Path(folder), "check", timed)
    return timed.images_per_s


def distillation(job: Job, setting: Setting) -> dict[str, Any]:
    """Return the images per second of distillation with a cached and an online teacher."""
    trainer = Trainer.model_validate({"accelerator": setting.device_kind})
    settings = Distillation(epochs=EPOCHS, batch=job.batch, views=1)
    head = nn.Identity() if setting.tiny else job.teacher.head
    with tempfile.TemporaryDirectory() as folder:
        files = embed_views([embedder(job, Path(folder))], 1)
        stored = our_fit(job, settings, CachedTeacher(files, head), trainer)
    live = settings.model_copy(update={"teacher": "live"})
    online = our_fit(job, live, OnlineTeacher(job.teacher, head, 1), trainer)
    return {
        "distill_stored": {"compress": stored},
        "distill_live": {"compress": online, "stored/live": stored / online},
    }


def embedder(job: Job, root: Path, chooser: FormatChooser | None = None) -> Embedder:
    root.mkdir(exist_ok=True)
    return Embedder(
        Store(root), lambda: job.teacher, [job.split], Views(), 0, job.batch, {"for": "check"}, chooser, job.device
    )


def embeddings(job: Job) -> dict[str, Any]:
    """Return the images per second of cached embeddings, and of forward passes on images that are on the device."""
    found = {}
    for name, chooser in (("fp32", None), ("auto", FormatChooser())):
        with tempfile.TemporaryDirectory() as folder:
            made = embedder(job, Path(folder), chooser)
            tower = made.tower  # loads the teacher and chooses the format, which is not timed
            embed_views([embedder(job, Path(folder) / "warm", chooser)], 1)
            wait()
            started = time.perf_counter()
            embed_views([made], 1)
            ours = len(job.split) / (time.perf_counter() - started)
        with exact_float32(job.device):
            plain = plain_forward(job, tower.embed)
        found[f"embed_{name}"] = {"plain": plain, "compress": ours, "ratio": ours / plain, "format": str(tower.format)}
    return found


def evaluation(job: Job) -> dict[str, float]:
    """Return the images per second of an evaluation, and of forward passes on images that are on the device."""
    network, preprocess = copy.deepcopy(job.student).eval().to(memory_format=torch.channels_last), job.preprocess
    with on_device(network, job.device), exact_float32(job.device):

        def forward(images: Tensor) -> Tensor:
            return network(preprocess(images).contiguous(memory_format=torch.channels_last))  # type: ignore[no-any-return]

        plain = plain_forward(job, forward)
        rates = []
        for _ in range(2):
            started = time.perf_counter()
            predict_split(network, preprocess, job.split, job.batch, memory_format=torch.channels_last)
            rates.append(len(job.split) / (time.perf_counter() - started))
    return {"plain": plain, "compress": rates[-1], "ratio": rates[-1] / plain}


@torch.inference_mode()
def plain_forward(job: Job, forward: Callable[[Tensor], Tensor]) -> float:
    """Return the images per second of forward passes on images that are on the device; the second time counts."""
    images = torch.from_numpy(job.split.images).to(job.device)
    rate = 0.0
    for _ in range(2):
        wait()
        started = time.perf_counter()
        for start in range(0, len(images), job.batch):
            forward(images[start : start + job.batch])
        wait()
        rate = len(images) / (time.perf_counter() - started)
    return rate
