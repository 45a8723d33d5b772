"""Benchmark the images per second of a plain loop, `train`, `distill` (stored, live), and one cached file per image.

    python scripts/bench_distill.py --student resnet18 --images 2048 --rounds 5
    python scripts/bench_distill.py --resolution 64 --images 1024 --rounds 4 --ways plain train auto --overhead

Every way trains the same student on the same images for one epoch, in interleaved rounds; the cost of Lightning, of
loaders and of the checkpoint counts, except in the ratio of steps alone. `--overhead` adds what an epoch costs besides
its steps, as a share of 60 steps.

- plain: a hand-written supervised loop: images in memory, shifted and flipped in batches, AdamW;
- whole: the same on the network with its dead taps (`bench_training_step.py`), which `plain` and ours leave out;
- train, stored, live: `compress.training.fit` as the stages of a recipe call it, without validation;
- auto: `train` with `precision: auto`, whose timing of formats falls into the round that is not counted;
- files: as in NVIDIA's example: an image folder and one `.pt` file of the teacher's embedding per image, read one by
  one through a DataLoader; no augmentation; KD on the logits; the whole network.
"""

from __future__ import annotations

import argparse
import copy
import gc
import logging
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.measurement.compute import macs, training_macs
from compress.measurement.latency import summary
from compress.models.teachers import LoadedTeacher, load_teacher
from compress.recipe.data import Views
from compress.recipe.fit import Distillation, Fit
from compress.recipe.load import parse_recipe
from compress.recipe.schema import Trainer
from compress.store.store import Store
from compress.training.dead_taps import without_dead_taps
from compress.training.fit import fit
from compress.training.formats import FormatChooser
from compress.training.losses.kd import kd
from compress.training.module import FitModule
from compress.training.teacher_cache import Embedder, embed_views
from compress.training.teacher_signal import CachedTeacher, OnlineTeacher
from compress.utils.system import cores

Way = Callable[[], float | None]
"""Trains for one epoch; returns the seconds of its steps if something else takes time as well."""

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
WAYS = ["plain", "whole", "train", "auto", "stored", "live", "files"]
TAUGHT = {"stored", "live", "files"}
EPOCH_STEPS = 60  # that the overhead of an epoch is compared with
SETTINGS = {"epochs": 1, "optimizer": "adamw", "lr": 1e-3, "warmup": 0.0}
RECIPE = "{name: bench, data: cifar10-sample, stages: [{id: teacher, kind: teacher, teacher: embedded}]}"


class Files(Dataset):
    """One image file and one embedding file at a time."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = np.asarray(Image.open(self.folder / f"{index}.png"))
        image = (torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255 - 0.5) / 0.25
        return image, torch.load(self.folder / f"embedding_{index}.pt", weights_only=True)


class Moments(Callback):
    """When steps and validations began and ended, in seconds."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, float]] = []
        self.validations: list[tuple[float, float]] = []

    def on_train_batch_start(self, *_: object) -> None:
        self.started = time.perf_counter()

    def on_train_batch_end(self, *_: object) -> None:
        self.steps.append((self.started, time.perf_counter()))

    def on_validation_start(self, *_: object) -> None:
        self.started = time.perf_counter()

    def on_validation_end(self, *_: object) -> None:
        self.validations.append((self.started, time.perf_counter()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="resnet18")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--resolution", type=int, default=32, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS, help="ways to benchmark; must include plain")
    parser.add_argument("--workers", type=int, default=min(2, cores()), help="workers of the `files` loader")
    parser.add_argument("--overhead", action="store_true", help="measure what an epoch costs besides its steps")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    side = args.resolution
    split = noise(args.images, side)
    recipe = parse_recipe(RECIPE)
    teacher = load_teacher(recipe.stages[0].teacher, recipe.data, CLASSES, side)
    student = timm.create_model(args.student, num_classes=10, zero_init_last=False)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        ways = make_ways(args, split, teacher, student, work)
        times = in_turns({way: ways[way] for way in args.ways}, args.rounds)
        if args.overhead:
            print_overhead(args, student)
    reference = [[whole] for whole, _ in times["plain"]]
    for way, taken in times.items():
        record = summary([[[whole] for whole, _ in taken]], [reference])
        steps = summary([[[alone] for _, alone in taken]], [reference])["ratio_to_reference"]
        rate, (low, high) = args.images / record["p50_ms"] * 1000, record["ratio_ci95"]
        ratio = f"{record['ratio_to_reference']:.2f}x the plain loop ({low:.2f}-{high:.2f}), steps alone {steps:.2f}x"
        print(f"{way:7} {rate:7.0f} images/s, {ratio}")
    for one, other in (("stored", "train"), ("stored", "live"), ("stored", "files")):
        if one not in times or other not in times:
            continue
        record = summary([[[ms] for ms, _ in times[one]]], [[[ms] for ms, _ in times[other]]])
        low, high = record["ratio_ci95"]
        print(f"{one} / {other}: {record['ratio_to_reference']:.2f} ({low:.2f}-{high:.2f})")
    with without_dead_taps(student, side):
        step = training_macs(student, side)
    embedding = macs(teacher.tower, teacher.preprocess.resolution)
    print(f"MACs: a student's step {step / 1e6:.0f} M an image, the teacher {embedding / 1e6:.0f} M")


def noise(images: int, side: int) -> Split:
    rng = np.random.default_rng(0)
    return Split(rng.integers(0, 256, (images, 3, side, side)).astype(np.uint8), rng.integers(0, 10, images))


def in_turns(ways: dict[str, Way], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return the milliseconds of an epoch of each way, and of its steps alone; a first round is not counted."""
    times: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way in random.Random(number).sample(list(ways), len(ways)):
            gc.collect()  # so that this way does not pay for the garbage of the last one
            started = time.perf_counter()
            steps = ways[way]()
            taken = time.perf_counter() - started
            if number:
                times[way].append((taken * 1000, (taken if steps is None else steps) * 1000))
    return times


def make_ways(
    args: argparse.Namespace, split: Split, teacher: LoadedTeacher, student: nn.Module, work: Path
) -> dict[str, Way]:
    files: list[Path] = []
    if TAUGHT & set(args.ways):
        embedder = Embedder(Store(work / "store"), lambda: teacher, [split], Views(), 0, 64, {"for": "bench"})
        embedder.store.root.mkdir()
        files = embed_views([embedder], 1)
        write_files(split, np.load(files[0]), work / "files")
    chooser = FormatChooser()
    supervised = Fit(batch=args.batch, **SETTINGS)
    distilled = Distillation(batch=args.batch, views=1, **SETTINGS)

    def ours(settings: Fit, signal: CachedTeacher | OnlineTeacher | None, precision: str = "32-true") -> Way:
        def epoch() -> float:
            moments = fitted(student, settings, split, noise(1, args.resolution), signal, precision, chooser)
            return moments.steps[-1][1] - moments.steps[0][0]

        return epoch

    return {
        "plain": lambda: plain(copy.deepcopy(student), split, args.batch, whole=False),
        "whole": lambda: plain(copy.deepcopy(student), split, args.batch, whole=True),
        "train": ours(supervised, None),
        "auto": ours(supervised, None, "auto"),
        "stored": ours(distilled, CachedTeacher(files, teacher.head)),
        "live": ours(distilled.model_copy(update={"teacher": "live"}), OnlineTeacher(teacher, teacher.head, 1)),
        "files": lambda: from_files(copy.deepcopy(student), work / "files", args, teacher.head),
    }


def fitted(
    student: nn.Module,
    settings: Fit,
    split: Split,
    validation: Split,
    signal: CachedTeacher | OnlineTeacher | None = None,
    precision: str = "32-true",
    chooser: FormatChooser | None = None,
) -> Moments:
    """Fit a copy of the student, and return when its steps and validations were."""
    network, moments, side = copy.deepcopy(student), Moments(), split.images.shape[-1]
    preprocess = Preprocess(resolution=side, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    trainer = Trainer.model_validate({"accelerator": "cpu", "precision": precision})
    with without_dead_taps(network, side), tempfile.TemporaryDirectory() as folder:
        module = FitModule(network, preprocess, [split], validation, Views(), settings, signal, seed=0, image_macs=0)
        fit(module, trainer, Path(folder), "bench", moments, chooser=chooser)
    return moments


def print_overhead(args: argparse.Namespace, student: nn.Module) -> None:
    """Measure a fit of 3 epochs of 4 steps, with 500 validation images."""
    steps, settings = 4, Fit(batch=args.batch, **{**SETTINGS, "epochs": 3})
    moments = fitted(student, settings, noise(steps * args.batch, args.resolution), noise(500, args.resolution))
    whole = np.median([(end - start) for start, end in moments.steps]) * EPOCH_STEPS
    between = [
        moments.steps[epoch * steps][0] - moments.steps[epoch * steps - 1][1] for epoch in range(1, settings.epochs)
    ]
    validation = float(np.mean([end - start for start, end in moments.validations]))
    rest = float(np.mean(between)) - validation
    print(
        f"between two epochs: {rest:.2f} s, {rest / whole:.1%} of {EPOCH_STEPS} steps, besides {validation:.2f} s "
        f"({validation / whole:.1%}) for 500 validation images"
    )


def plain(network: nn.Module, split: Split, batch: int, *, whole: bool) -> None:
    """A fast and simple hand-written loop."""
    with nullcontext() if whole else without_dead_taps(network, split.images.shape[-1]):
        _plain(network, split, batch)


def _plain(network: nn.Module, split: Split, batch: int) -> None:
    images, labels = torch.from_numpy(split.images), torch.from_numpy(np.asarray(split.labels))
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, fused=True)
    network.train()
    order, side = torch.randperm(len(images)), images.shape[-1]
    for start in range(0, len(images) - batch + 1, batch):
        rows = order[start : start + batch]
        pixels = (images[rows].float() / 255 - 0.5) / 0.25
        top, left = torch.randint(0, 9, (2,)).tolist()
        pixels = F.pad(pixels, (4, 4, 4, 4), mode="reflect")[:, :, top : top + side, left : left + side]
        pixels = torch.where(torch.rand(batch, 1, 1, 1) < 0.5, pixels.flip(3), pixels)
        loss = F.cross_entropy(network(pixels.contiguous(memory_format=torch.channels_last)), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def from_files(network: nn.Module, folder: Path, args: argparse.Namespace, head: nn.Module) -> None:
    loader = DataLoader(Files(folder, args.images), args.batch, shuffle=True, drop_last=True, num_workers=args.workers)
    optimizer = torch.optim.Adam(network.parameters(), 3e-4)
    network.train()
    for images, embeddings in loader:
        with torch.no_grad():
            answers = head(embeddings)
        loss = kd(network(images), answers, 1.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def write_files(split: Split, embeddings: np.ndarray, folder: Path) -> None:
    folder.mkdir()
    for index, (image, embedding) in enumerate(zip(split.images, embeddings, strict=True)):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{index}.png")
        torch.save(torch.from_numpy(embedding.astype(np.float32)), folder / f"embedding_{index}.pt")


if __name__ == "__main__":
    main()
