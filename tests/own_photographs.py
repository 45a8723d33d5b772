"""A person's own photographs, as they come: uneven, of all sizes and kinds, some grey, some huge, some broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from compress.data.sample import SampleData, read

KINDS = ("jpg", "png", "webp", "JPG", "jpeg")
SIX = {
    "Kätzchen & co": ("cat", 90),
    'dogs "big"': ("dog", 70),
    "it's a ship": ("ship", 60),
    "trucks #1": ("truck", 45),
    "鳥": ("bird", 25),
    "frog": ("frog", 10),
}
"""Folders of classes, each with the CIFAR-10 class that is in it and how many."""


def make_photographs(
    root: Path,
    classes: dict[str, tuple[str, int]],
    *,
    seed: int = 0,
    largest: int = 500,
    huge: tuple[int, int] | None = (6000, 4000),
) -> dict[str, int]:
    """Write `root/CLASS/*`, scaled up from the embedded sample's test images; returns how many are of which kind."""
    raw = read(SampleData(source="cifar10-sample"), root)
    assert raw.test and raw.test.labels is not None
    rng = np.random.default_rng(seed)
    made = {"images": 0, "broken": 0, "grey": 0, "huge": 0, "copies": 0}
    for name, (cifar, count) in classes.items():
        folder = root / name
        folder.mkdir(parents=True)
        pool = np.flatnonzero(raw.test.labels == raw.classes.index(cifar))[:count]
        for number, row in enumerate(pool):
            image = Image.fromarray(raw.test.images[row].transpose(1, 2, 0))
            size = tuple(int(side) for side in rng.integers(largest // 5, largest, 2))
            file = folder / f"IMG {number:04}.{KINDS[number % len(KINDS)]}"
            if huge and number == 7:
                size = huge
                made["huge"] += 1
            if number % 11 == 5:
                image = image.convert("L")
                made["grey"] += 1
            image.resize(size, Image.Resampling.BICUBIC).save(file)
            made["images"] += 1
            if number % 23 == 9:  # an interrupted copy
                file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])
                made["broken"] += 1
        (folder / "copy of 0.jpg").write_bytes((folder / "IMG 0000.jpg").read_bytes())
        made["copies"] += 1
        made["images"] += 1
        (folder / "Thumbs.db").write_bytes(b"no image")
    return made
