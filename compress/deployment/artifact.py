"""An artifact, ready to classify images. Needs its runtime, numpy and Pillow; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from compress.data.image_io import BrokenImage
from compress.data.source import Pixels
from compress.deployment.preprocess import Inputs, Picture, read_inputs
from compress.deployment.runtimes import Runner, find_runtime, require_engine
from compress.measurement.accuracy import softmax
from compress.registry import RUNTIMES
from compress.utils.checksums import refuse_changed_artifact
from compress.utils.errors import CompressError, UsageError, first_line

BATCH = 32
"""Images that go through an artifact at once."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Artifact:
    """A classifier as it is deployed.

    Attributes:
        path: The file that was loaded.
        runtime: Name of the runtime that runs it.
        classes: Names, in the order of the network's outputs.
        preprocess: What images go through before the network.
        run: The network itself: float32 `[b, 3, r, r]`, normalised, to logits float32 `[b, classes]`.
    """

    path: Path
    runtime: str
    classes: tuple[str, ...]
    preprocess: Inputs
    run: Runner

    def __call__(self, images: Picture | Sequence[Picture] | Pixels) -> Array:
        """Classify images.

        Args:
            images: uint8 `[n, h, w, 3]`, or a list of files, open images or pixels uint8 `[h, w, 3]`, of any size;
                one file or open image alone counts as a list of one.

        Returns:
            Probabilities float32 `[n, classes]`, of which each row adds up to 1.

        Raises:
            UsageError: pixels are not uint8 with three channels.
            CompressError: a file is no image or cannot be read, or the runtime fails.
        """
        return softmax(self.logits(images)).astype(np.float32)

    def logits(self, images: Picture | Sequence[Picture] | Pixels) -> Array:
        """The network's outputs before the softmax, float32 `[n, classes]`; takes and raises what a call does."""
        if isinstance(images, np.ndarray) and images.ndim != 4:
            raise UsageError(f"pixels must be uint8 [n, height, width, 3], not {images.dtype} {list(images.shape)}")
        pictures = [images] if isinstance(images, str | Path | Image.Image) else images
        parts = [np.empty((0, len(self.classes)), np.float32)]
        for start in range(0, len(pictures), BATCH):
            pixels = [self._pixels(picture, start + n) for n, picture in enumerate(pictures[start : start + BATCH])]
            parts.append(self.answer(np.stack(pixels)))
        return np.concatenate(parts)

    def answer(self, pixels: Pixels) -> Array:
        """Logits float32 `[n, classes]` of a batch that has its size already: uint8 `[n, 3, resolution, resolution]`.

        Raises:
            CompressError: the runtime fails.
        """
        try:
            logits = self.run(self.preprocess.normalise(pixels))
        except Exception as error:  # exception types of runtimes are not public
            raise CompressError(f"{self.path} does not run in {self.runtime}: {first_line(error)}") from error
        if not np.isfinite(logits).all():
            raise CompressError(f"{self.path} gives no numbers in {self.runtime}: its weights are damaged")
        return np.asarray(logits, np.float32)

    def _pixels(self, picture: Picture, number: int) -> Pixels:
        try:
            return self.preprocess.pixels(picture)
        except BrokenImage as error:
            name = str(picture) if isinstance(picture, str | Path) else f"image {number}"
            raise CompressError(f"{name} is no image that can be read ({error})") from error


def load_artifact(path: str | Path, runtime: str | None = None, threads: int | None = None) -> Artifact:
    """Load an artifact of a run, and put one black image through it to see that it fits its `preprocess.json`.

    Args:
        path: The file, such as `model.onnx` or `model.xml`, or its folder, `artifacts/VARIANT/FORMAT/` of a run.
        runtime: Name of the runtime; without it, the one that the file's format is for.
        threads: Threads of the runtime; without them, all cores.

    Returns:
        What turns images into probabilities: `load_artifact(path)(images)`.

    Raises:
        UsageError: there is no such file, it is no artifact, or the runtime is unknown or reads no such file.
        CompressError: the runtime is not installed, a file is missing or not what its `SHA256SUMS` says, or the network
            has not as many outputs as classes are listed.
    """
    file, name = find_artifact(Path(path), runtime)
    module = require_engine(name)
    refuse_changed_artifact(file.parent)
    inputs, classes = read_inputs(file.parent)
    artifact = Artifact(file, name, classes, inputs, module.load(file, threads))
    logits = artifact.answer(np.zeros((1, 3, inputs.resolution, inputs.resolution), np.uint8))
    if logits.ndim != 2 or len(logits) != 1:
        shapes = f"{list(logits.shape)}, not [1, {len(classes)}]"
        raise CompressError(f"{file} is no classifier: one image gives an output of shape {shapes}")
    if logits.shape[1] != len(classes):
        raise CompressError(f"{file} tells {logits.shape[1]} classes apart, and preprocess.json lists {len(classes)}")
    return artifact


def find_artifact(path: Path, runtime: str | None = None) -> tuple[Path, str]:
    """The file to load at a path, and the runtime to load it with; nothing is imported or read.

    Raises:
        UsageError: there is no such file, it is no artifact, or the runtime is unknown or reads no such file.
    """
    readers = {name: find_runtime(name).READS for name in RUNTIMES}
    endings = tuple(dict.fromkeys(ending for reads in readers.values() for ending in reads))
    if runtime:
        readers = {runtime: find_runtime(runtime).READS}
        endings = tuple(dict.fromkeys((*readers[runtime], *endings)))  # of two files, the one that is its own
    file = _file(path, endings, runtime is not None)
    if not file.name.endswith(endings):
        raise UsageError(f"{path} is no artifact: runtimes read files that end in {', '.join(endings)}")
    name = next((name for name, reads in readers.items() if file.name.endswith(reads)), None)
    if name is None:
        assert runtime
        raise UsageError(f"the runtime {runtime} does not read {file}: it reads {', '.join(readers[runtime])}")
    return file, name


def _file(path: Path, endings: Sequence[str], first: bool) -> Path:
    """The file at a path; of several in a folder the `first` by its ending, or none."""
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder")
    if not path.is_dir() or path.name.endswith(tuple(endings)):
        return path
    there = [path / f"model{ending}" for ending in endings if (path / f"model{ending}").exists()]
    if not there:
        inside = sorted(child.parent for ending in endings for child in path.glob(f"*/model{ending}"))
        hint = f"; did you mean {inside[0]}?" if inside else ""
        names = " or ".join(f"model{ending}" for ending in endings)
        raise UsageError(f"{path} is no artifact: it holds no {names}{hint}")
    if len(there) > 1 and not first:
        raise UsageError(f"{path} holds {', '.join(file.name for file in there)}: name one of these files")
    return there[0]
