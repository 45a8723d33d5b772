"""Benchmark `images: files`: memory and images per second over two epochs, and against torchvision's ImageFolder.

    python scripts/bench_files.py --images 22000 --workers 2

Generates photos in a temporary folder: a few pictures of shapes and noise, encoded once, each file with a comment of
its own so that no two are the same. The fit has a network of a single layer, so that loading decides the speed. A
second process resumes from what the first one had on its disk after an epoch, as if it had been killed then; its
weights are compared.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from io import BytesIO
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from compress.data.folder import FolderData
from compress.data.prepared import ImageData, prepare
from compress.data.preprocess import Preprocess
from compress.recipe.data import PLAIN
from compress.recipe.fit import Fit
from compress.recipe.schema import Trainer
from compress.store.store import Store
from compress.training.dataset import ImageDataset, train_loader
from compress.training.fit import fit
from compress.training.module import FitModule

SIDE, BATCH, PICTURES = 224, 128, 64


def generate(root: Path, count: int, width: int, height: int) -> int:
    """Write `count` train photos of two classes and 200 more each for validation and test; return their bytes."""
    pictures = [picture(seed, width, height) for seed in range(PICTURES)]
    size = 0
    for split, images in (("train", count), ("val", 200), ("test", 200)):
        for number in range(images):
            folder = root / split / f"class{number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            comment, start = f"{split}{number}".encode(), pictures[number % PICTURES]
            content = start[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + start[2:]
            size += (folder / f"{number:06}.jpg").write_bytes(content)
    return size


def picture(seed: int, width: int, height: int) -> bytes:
    """Encode a picture of waves, a disc and noise as a JPEG."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / a + y / b) for a, b in rng.uniform(20, 90, (3, 2))]
    disc = (x - width * rng.uniform()) ** 2 + (y - height * rng.uniform()) ** 2 < (height / 4) ** 2
    pixels = 110 + 50 * np.stack(waves, 2) + 40 * disc[..., None] + rng.normal(0, 9, (height, width, 3))
    out = BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
    return out.getvalue()


def memory() -> str:
    """Resident memory of this process, of its workers, and what all use together, shared pages counted once."""
    own, *others = [_megabytes("self"), *(_megabytes(str(child.pid)) for child in active_children())]
    largest = f", the largest worker {max(rss for rss, _ in others):,.0f} MB" if others else ""
    return f"RSS {own[0]:,.0f} MB{largest}, PSS of all {sum(pss for _, pss in (own, *others)):,.0f} MB"


def _megabytes(process: str) -> tuple[float, float]:
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:])
    return tuple(int(lines[name].split()[0]) / 1000 for name in ("Rss", "Pss"))  # type: ignore[return-value]


class Quarters(Callback):
    """Prints speed and memory after each quarter of an epoch, and keeps the state after the first epoch."""

    def __init__(self, work: Path, aside: Path) -> None:
        self.work, self.aside = work, aside

    def on_train_epoch_start(self, *_: Any) -> None:
        self.quarter, self.at, self.started = 1, 0, time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        done = batch_idx + 1
        if done * 4 >= self.quarter * int(trainer.num_training_batches):
            now = time.monotonic()
            rate = (done - self.at) * BATCH / (now - self.started)
            print(
                f"epoch {trainer.current_epoch + 1}, quarter {self.quarter}: {rate:,.0f} images/s, {memory()}",
                flush=True,
            )
            self.quarter, self.at, self.started = self.quarter + 1, done, now

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.current_epoch == 0:
            shutil.rmtree(self.aside, ignore_errors=True)

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.current_epoch == 1 and not self.aside.exists():  # the checkpoint is that of the first epoch
            shutil.copytree(self.work, self.aside)


def train(data: ImageData, work: Path, aside: Path) -> str:
    """Fit for two epochs, or to the second one from the checkpoint in `work`; return the digest of the weights."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.AvgPool2d(14), nn.Flatten(), nn.Linear(3 * (SIDE // 14) ** 2, len(data.classes)))
    preprocess = Preprocess(resolution=SIDE, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    settings = Fit(epochs=2, batch=BATCH, optimizer="adamw", lr=0.001)
    module = FitModule(network, preprocess, [data.train], data.validation, PLAIN, settings, None, seed=0, image_macs=1)
    fit(module, Trainer(accelerator="cpu"), work, "benchmark", Quarters(work, aside))
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in network.state_dict().values())).hexdigest()


def compare(data: ImageData, photos: Path, images: int, workers: int) -> None:
    """Load the first images in shuffled order with both loaders, in turns."""
    steps = v2.Compose(
        [v2.Resize(SIDE, interpolation=v2.InterpolationMode.BICUBIC), v2.CenterCrop(SIDE), v2.PILToTensor()]
    )
    dataset = Subset(ImageFolder(photos / "train", steps), range(images))
    # Both leave out the last, partial batch, so that batches times BATCH is what was loaded.
    theirs = DataLoader(
        dataset, BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )
    ours = ImageDataset([data.train])
    ours.starts[-1] = images
    loaders = {"ImageFolder": theirs, "images: files": train_loader(ours, BATCH, 1, 0, 0)}
    for turn in range(2):
        for name, loader in loaders.items():
            started = time.monotonic()
            count = sum(1 for _ in _batches(loader)) * BATCH
            print(f"turn {turn + 1}, {name}: {count / (time.monotonic() - started):,.0f} images/s", flush=True)


def _batches(loader: Any) -> Iterator[Any]:
    yield from loader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=22_000)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--compare", type=int, default=4_000, help="images of each turn against ImageFolder")
    parser.add_argument("--folder", type=Path, help="folder of an earlier process, to resume from")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        photos = folder / "photos"
        if not args.folder:
            size = generate(photos, args.images, args.width, args.height)
            decoded = args.images * args.width * args.height * 3 / 1e9
            print(f"{args.images:,} photos, {decoded:.1f} GB decoded, {size / 1e9:.1f} GB as JPEG", flush=True)
        started = time.monotonic()
        section = FolderData(
            source="image-folder", path=str(photos), resolution=SIDE, images="files", workers=args.workers
        )
        data = prepare(section, Store(folder / "store"), 0)
        print(f"prepared in {time.monotonic() - started:.1f} s, {memory()}", flush=True)
        if args.folder:
            print(train(data, folder / "aside", folder / "none"))
            return
        weights = train(data, folder / "work", folder / "aside")
        command = [sys.executable, __file__, "--folder", str(folder), "--workers", str(args.workers + 1)]
        again = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        print(f"resumed after epoch 1 with {args.workers + 1} workers:", *again.splitlines()[:-1], sep="\n  ")
        print("same bits" if again.split()[-1] == weights else "OTHER BITS")
        compare(data, photos, args.compare, args.workers)


if __name__ == "__main__":
    main()
