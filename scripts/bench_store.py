"""Benchmark memory, bytes and time of filling the teacher cache, and the cost of a `kill -9` in the middle.

    python scripts/bench_store.py --images 100000 --pixels 96

Images are generated and the teacher is tiny, so the store is measured and not a network. The first process is killed
when half of the images are done; the second resumes. Memory is that of the process alone (RssAnon): the system can
reclaim pages of mapped files.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.models.teachers import LoadedTeacher
from compress.recipe.data import Views
from compress.store.store import Store
from compress.training import teacher_cache as embeddings
from compress.training.teacher_cache import Embedder, embed_views

WIDTH = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--pixels", type=int, default=96)
    parser.add_argument("--folder", type=Path, help="folder of images and store; default: a temporary one")
    parser.add_argument("--fill", action="store_true", help="only fill the cache, as the two processes do")
    args = parser.parse_args()
    if args.fill:
        fill(args.folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        if (folder / "store").exists():
            parser.error(f"{folder} has a store already, from which nothing would be made; name another --folder")
        generate(folder / "images.npy", args.images, args.pixels)
        command = [sys.executable, __file__, "--fill", "--folder", str(folder)]
        started = time.monotonic()
        first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert first.stdout
        for line in first.stdout:
            if int(line.split()[0]) >= args.images // 2:
                first.send_signal(signal.SIGKILL)
                break
        first.wait()
        print(f"killed with {line.split()[0]} images done, {line.split()[2]} MiB of memory")
        second = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        lines = [line.split() for line in second.stdout.splitlines()]
        print(f"went on after {int(lines[0][0]) - embeddings.BLOCK} images, of {args.images}")
        print(f"memory after the first block {lines[0][2]} MiB, after the last {lines[-1][2]} MiB")
        for file in sorted((folder / "store").rglob("embeddings.npy")):
            print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB, {np.load(file, mmap_mode='r').shape} fp16")
        print(f"{time.monotonic() - started:.0f} s in all")


def fill(folder: Path) -> None:
    """Fill the store; after each block print `DONE images MEMORY MiB`."""
    torch.manual_seed(0)
    images = np.load(folder / "images.npy", mmap_mode="r")
    tower = nn.Sequential(nn.Conv2d(3, 8, 7, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
    tower.append(nn.Linear(128, WIDTH))
    side = images.shape[-1]
    teacher = LoadedTeacher(tower.eval(), nn.Identity(), Preprocess(side, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)))
    store = Store(folder / "store")
    store.root.mkdir(exist_ok=True)
    original = embeddings._mark

    def mark(path: Path, done: int, total: int) -> None:
        original(path, done, total)
        print(f"{done} images {anonymous_memory()} MiB", flush=True)

    embeddings._mark = mark
    splits = [Split(images, None)]
    embed_views([Embedder(store, lambda: teacher, splits, Views(), 0, 256, {"for": "bench"})], 1)


def anonymous_memory() -> int:
    """Return the MiB of memory of this process alone."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("RssAnon"))


def generate(path: Path, count: int, side: int) -> None:
    array = np.lib.format.open_memmap(path, "w+", dtype=np.uint8, shape=(count, 3, side, side))
    rng = np.random.default_rng(0)
    for start in range(0, count, 4096):
        block = array[start : start + 4096]
        block[:] = np.frombuffer(rng.bytes(block.size), np.uint8).reshape(block.shape)
    array.flush()


if __name__ == "__main__":
    main()
