"""Make the embedded sample `cifar10-sample` from the full CIFAR-10.

    python scripts/make_cifar10_sample.py --cifar10 DIR

It has 2,000 labelled train, 6,000 unlabelled train and 500 validation images from CIFAR-10's train set, and 2,500 test
images from its test set, class-balanced, drawn with a fixed seed. Each split is a series of lossless WebP sheets, each
500 images high.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from _cifar10 import CLASSES, SEED, TAKEN, read_cifar10, sample_indices
from PIL import Image

IMAGES_PER_SHEET = 500  # WebP is at most 16,383 pixels high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, required=True, help="folder of the full CIFAR-10")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parents[1] / "compress" / "assets" / "cifar10-sample"
    )
    args = parser.parse_args()

    parts = read_cifar10(args.cifar10)
    indices = sample_indices({name: labels for name, (_, labels) in parts.items()})
    args.out.mkdir(parents=True, exist_ok=True)
    splits = {}
    for split, (origin, _) in TAKEN.items():
        images, labels = (array[indices[split]] for array in parts[origin])
        sheets = []
        for number, start in enumerate(range(0, len(images), IMAGES_PER_SHEET)):
            sheets.append(f"{split}-{number}.webp")
            strip = images[start : start + IMAGES_PER_SHEET].reshape(-1, 32, 3)
            Image.fromarray(strip).save(args.out / sheets[-1], lossless=True, method=6, quality=100)
            with Image.open(args.out / sheets[-1]) as written:
                assert np.array_equal(np.asarray(written.convert("RGB")), strip), sheets[-1]
        splits[split] = {
            "sheets": sheets,
            "labels": None if split == "unlabeled" else labels.tolist(),
            "origin": f"CIFAR-10 {origin} set",
            "origin_indices": indices[split].tolist(),
        }
        print(f"{split}: {len(images)} images in {len(sheets)} sheets", flush=True)
    (args.out / "sample.json").write_text(json.dumps({"classes": CLASSES, "seed": SEED, "splits": splits}) + "\n")


if __name__ == "__main__":
    main()
