"""Benchmark the images per second of a plain loop, `train`, `distill` (stored, live), and one cached file per image.

    python scripts/bench_distill.py --student resnet18 --images 2048 --rounds 5

Every way trains the same student on the same images for one epoch, in interleaved rounds; the cost of Lightning and of
loaders counts.

- plain: a hand-written supervised loop: images in memory, shifted and flipped in batches, AdamW;
- whole: the same on the network with its dead taps (`bench_training_step.py`), which `plain` and ours leave out;
- train, stored, live: `compress.training.fit` as the stages of a recipe call it, without validation;
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
from compress.training.losses.kd import kd
from compress.training.module import FitModule
from compress.training.teacher_cache import Embedder, embed_views
from compress.training.teacher_signal import CachedTeacher, OnlineTeacher
from compress.utils.system import cores

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
WAYS = ["plain", "whole", "train", "stored", "live", "files"]
SETTINGS = {"epochs": 1, "optimizer": "adamw", "lr": 1e-3, "warmup": 0.0}
ONE = Split(np.zeros((1, 3, 32, 32), np.uint8), np.zeros(1, np.int64))  # a validation split that takes no time
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="resnet18")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS, help="ways to benchmark; must include plain")
    parser.add_argument("--workers", type=int, default=min(2, cores()), help="workers of the `files` loader")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (args.images, 3, 32, 32)).astype(np.uint8), rng.integers(0, 10, args.images))
    recipe = parse_recipe(RECIPE)
    teacher = load_teacher(recipe.stages[0].teacher, recipe.data, CLASSES, 32)
    student = timm.create_model(args.student, num_classes=10, zero_init_last=False)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        ways = make_ways(args, split, teacher, student, work)
        times = in_turns({way: ways[way] for way in args.ways}, args.rounds)
    for way, taken in times.items():
        record = summary([taken], [times["plain"]])
        rate, (low, high) = args.images / record["p50_ms"] * 1000, record["ratio_ci95"]
        print(
            f"{way:7} {rate:7.0f} images/s, {record['ratio_to_reference']:.2f}x the plain loop ({low:.2f}-{high:.2f})"
        )
    for one, other in (("stored", "train"), ("stored", "live"), ("stored", "files")):
        if one not in times or other not in times:
            continue
        record = summary([times[one]], [times[other]])
        low, high = record["ratio_ci95"]
        print(f"{one} / {other}: {record['ratio_to_reference']:.2f} ({low:.2f}-{high:.2f})")
    with without_dead_taps(student, 32):
        step = training_macs(student, 32)
    embedding = macs(teacher.tower, teacher.preprocess.resolution)
    print(f"MACs: a student's step {step / 1e6:.0f} M an image, the teacher {embedding / 1e6:.0f} M")


def in_turns(ways: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[list[float]]]:
    """Return the milliseconds of an epoch of each way, `[rounds][1]`; a first round is not counted."""
    times: dict[str, list[list[float]]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way in random.Random(number).sample(list(ways), len(ways)):
            gc.collect()  # so that this way does not pay for the garbage of the last one
            started = time.perf_counter()
            ways[way]()
            if number:
                times[way].append([(time.perf_counter() - started) * 1000])
    return times


def make_ways(
    args: argparse.Namespace, split: Split, teacher: LoadedTeacher, student: nn.Module, work: Path
) -> dict[str, Callable[[], None]]:
    embedder = Embedder(Store(work / "store"), lambda: teacher, [split], Views(), 0, 64, {"for": "bench"})
    embedder.store.root.mkdir()
    files = embed_views(embedder, 1)
    write_files(split, np.load(files[0]), work / "files")
    supervised = Fit(batch=args.batch, **SETTINGS)
    distilled = Distillation(batch=args.batch, views=1, **SETTINGS)

    def ours(settings: Fit, signal: CachedTeacher | OnlineTeacher | None) -> Callable[[], None]:
        def epoch() -> None:
            network = copy.deepcopy(student)
            preprocess = Preprocess(resolution=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
            with without_dead_taps(network, 32), tempfile.TemporaryDirectory() as folder:
                module = FitModule(network, preprocess, [split], ONE, Views(), settings, signal, seed=0, image_macs=0)
                fit(module, Trainer(accelerator="cpu"), Path(folder), "bench")

        return epoch

    return {
        "plain": lambda: plain(copy.deepcopy(student), split, args.batch, whole=False),
        "whole": lambda: plain(copy.deepcopy(student), split, args.batch, whole=True),
        "train": ours(supervised, None),
        "stored": ours(distilled, CachedTeacher(files, teacher.head)),
        "live": ours(distilled.model_copy(update={"teacher": "live"}), OnlineTeacher(teacher, teacher.head, 1)),
        "files": lambda: from_files(copy.deepcopy(student), work / "files", args, teacher.head),
    }


def plain(network: nn.Module, split: Split, batch: int, *, whole: bool) -> None:
    """A fast and simple hand-written loop."""
    with nullcontext() if whole else without_dead_taps(network, 32):
        _plain(network, split, batch)


def _plain(network: nn.Module, split: Split, batch: int) -> None:
    images, labels = torch.from_numpy(split.images), torch.from_numpy(np.asarray(split.labels))
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, fused=True)
    network.train()
    order = torch.randperm(len(images))
    for start in range(0, len(images) - batch + 1, batch):
        rows = order[start : start + batch]
        pixels = (images[rows].float() / 255 - 0.5) / 0.25
        top, left = torch.randint(0, 9, (2,)).tolist()
        pixels = F.pad(pixels, (4, 4, 4, 4), mode="reflect")[:, :, top : top + 32, left : left + 32]
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
