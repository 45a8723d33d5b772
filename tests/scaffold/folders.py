"""Small folders of noise images, and the recipe that `init` would write for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from compress.scaffold.choices import Machine, choose
from compress.scaffold.detect import detect_source
from compress.scaffold.recipe import recipe_text
from compress.scaffold.survey import survey_images

LAPTOP = Machine(
    cores=2,
    gpu=False,
    open_clip=False,
    student_weights=False,
    runtimes=("onnxruntime", "openvino"),
    free_bytes=10**12,
)


def paint(path: Path, seed: int, size: tuple[int, int] = (40, 40), grey: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels[..., 0] if grey else pixels).save(path)


def folder(root: Path, **counts: int) -> Path:
    """Write so many images of each class; the same call writes the same images."""
    for row, (name, count) in enumerate(counts.items()):
        for number in range(count):
            paint(root / name / f"{number}.png", 1000 * row + number)
    return root


def text_for(path: Path, machine: Machine = LAPTOP) -> str:
    """Return the recipe that `init` writes for the images in a path."""
    settings = detect_source(str(path))
    survey = survey_images(settings)
    return recipe_text(settings, survey, machine, choose(survey, machine))
