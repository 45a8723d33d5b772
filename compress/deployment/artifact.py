"""Loading artifacts to classify images. Needs the runtime, numpy and Pillow; does not import torch."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from compress.data.source import Pixels
from compress.deployment.preprocess import Inputs, Picture, require_pixels
from compress.deployment.preprocess_file import PREPROCESS, gives_embeddings, read_inputs, read_preprocess
from compress.deployment.runtime import Array, ExportOnlyRuntime, Runner, Runtime, require_images
from compress.deployment.runtimes import find_runtime, require_engine, runtime_entry
from compress.measurement.accuracy import softmax
from compress.models.class_list import CLASSES, ClassList, beside
from compress.registry import RUNTIMES
from compress.utils.checksums import require_unchanged_artifact
from compress.utils.errors import CompressError, UsageError, first_line
from compress.utils.precision import HALF

BATCH_SIZE = 32  # number of images that run through an artifact at once


@dataclass(frozen=True)
class Artifact:
    """A deployable classifier, loaded."""

    path: Path  # the file that was loaded
    runtime: str  # name of the runtime that runs it
    classes: tuple[str, ...]  # class names, in the order of the network's outputs
    preprocess: Inputs  # preprocessing of its images
    run: Runner  # the network itself: float32 `[b, 3, r, r]`, normalised, to logits float32 `[b, classes]`
    embed: Runner | None = None  # of an embedding student: the same to embeddings float32 `[b, width]` of length 1
    width: int = 0  # of these embeddings

    def __call__(self, images: Picture | Sequence[Picture] | Pixels) -> Array:
        """Classify images.

        Args:
            images: uint8 `[n, h, w, 3]`, or a list of files, open images or pixels uint8 `[h, w, 3]`, of any size;
                a single file or open image counts as a list of one. Pixels are 0 to 255 in RGB order, before any
                resize, crop or normalisation, which are done here. OpenCV reads BGR, which cannot be told from RGB:
                pass `pixels[..., ::-1]`.

        Returns:
            Probabilities float32 `[n, classes]`; each row sums to 1.

        Raises:
            UsageError: pixels are not uint8 with three channels last; the message says how to convert them.
            CompressError: a file is not an image or cannot be read, or the runtime fails.
        """
        return softmax(self.logits(images)).astype(np.float32)

    def logits(self, images: Picture | Sequence[Picture] | Pixels) -> Array:
        """Compute logits float32 `[n, classes]` of images; takes and raises the same as a call."""
        parts = [self.batch_logits(pixels) for pixels in self._batches(images)]
        return np.concatenate([np.empty((0, len(self.classes)), np.float32), *parts])

    def embeddings(self, images: Picture | Sequence[Picture] | Pixels) -> Array:
        """Compute embeddings float32 `[n, width]`, of length 1, of images; takes and raises the same as a call.

        Raises:
            UsageError: the file gives logits, as it is not of an embedding student.
        """
        if self.embed is None:
            raise UsageError(f"{self.path} gives logits; embeddings come from a student with `output: embedding`")
        parts = [self._run(self.embed, pixels, "embeddings") for pixels in self._batches(images)]
        return np.concatenate([np.empty((0, self.width), np.float32), *parts])

    def batch_logits(self, pixels: Pixels) -> Array:
        """Compute logits float32 `[n, classes]` of a resized batch, uint8 `[n, 3, resolution, resolution]`.

        Raises:
            UsageError: pixels are of another type or shape.
            CompressError: the runtime fails.
        """
        shape = (3, self.preprocess.resolution, self.preprocess.resolution)
        if pixels.dtype != np.uint8 or pixels.shape[1:] != shape:
            takes = f"uint8 [n, {', '.join(map(str, shape))}], 0 to 255 and not normalised"
            raise UsageError(f"pixels must be {takes}, not {pixels.dtype} {list(pixels.shape)}; convert them")
        return self._run(self.run, pixels, "logits")

    def _run(self, run: Runner, pixels: Pixels, what: str) -> Array:
        try:
            outputs = run(self.preprocess.normalise(pixels))
        except Exception as error:  # exception types of runtimes are not public
            raise CompressError(f"{self.path} does not run in {self.runtime}: {first_line(error)}") from error
        if not np.isfinite(outputs).all():
            raise CompressError(f"{self.path} gives non-finite {what} in {self.runtime}: its weights are damaged")
        return np.asarray(outputs, np.float32)

    def _batches(self, images: Picture | Sequence[Picture] | Pixels) -> Iterator[Pixels]:
        """Yield resized images in batches, uint8 `[n, 3, resolution, resolution]`."""
        from PIL import Image

        if isinstance(images, np.ndarray):
            require_pixels(images, batch=True)
        pictures = [images] if isinstance(images, str | Path | Image.Image) else images
        for start in range(0, len(pictures), BATCH_SIZE):
            batch = enumerate(pictures[start : start + BATCH_SIZE], start)
            yield np.stack([self._pixels(picture, number) for number, picture in batch])

    def _pixels(self, picture: Picture, number: int) -> Pixels:
        from compress.data.image_io import BrokenImage

        try:
            return self.preprocess.pixels(picture)
        except BrokenImage as error:
            name = str(picture) if isinstance(picture, str | Path) else f"image {number}"
            raise CompressError(f"{name} cannot be read as an image ({error})") from error


def load_artifact(path: str | Path, runtime: str | None = None, threads: int | None = None) -> Artifact:
    """Load an artifact of a run, and run one black image through it to check that it fits its `preprocess.json`.

    Args:
        path: The file, such as `model.onnx` or `model.xml`, or its folder, `artifacts/VARIANT/FORMAT/` of a run.
        runtime: Name of the runtime; by default the first one that reads the file.
        threads: Number of threads; by default all cores.

    Returns:
        The classifier: `load_artifact(path)(images)` are probabilities.

    Raises:
        UsageError: the file does not exist or is not an artifact, or the runtime is unknown or does not read it.
        CompressError: the runtime is not installed, a file is missing or does not match its `SHA256SUMS`, or the
            network does not have as many outputs as there are classes.
    """
    return load_verified(*verified(Path(path), runtime), threads)


def verified(path: Path, runtime: str | None = None) -> tuple[Path, str]:
    """Return the file of an artifact and the runtime to load it in, which is there; errors are those of loading."""
    file, name = find_artifact(path, runtime)
    require_engine(name)
    require_unchanged_artifact(file)
    return file, name


def load_verified(file: Path, name: str, threads: int | None = None) -> Artifact:
    """Load what `verified` returned, as `load_artifact` does."""
    loader = require_engine(name)
    if isinstance(loader, ExportOnlyRuntime):
        raise loader.not_run_here()
    inputs, classes = read_inputs(file.parent)
    listed, run = class_list(file, classes), _load(loader, file, threads, inputs.resolution)
    artifact = Artifact(file, name, classes, inputs, run)
    if listed:
        artifact = replace(artifact, run=listed.after(run), embed=run, width=listed.width)
    logits = artifact.batch_logits(np.zeros((1, 3, inputs.resolution, inputs.resolution), np.uint8))
    if logits.ndim != 2 or len(logits) != 1:
        shapes = f"{list(logits.shape)}, not [1, {len(classes)}]"
        raise CompressError(f"{file} is not a classifier: one image gives an output of shape {shapes}")
    if logits.shape[1] != len(classes):
        raise CompressError(f"{file} has {logits.shape[1]} outputs, but preprocess.json lists {len(classes)} classes")
    return artifact


def load_classifier(runtime: Runtime, path: Path, threads: int | None = None) -> Runner:
    """Load a file as a function from normalised images to logits; that of an embedding student with its class list.

    Raises:
        CompressError: the file or its class list cannot be read.
    """
    side = int(read_preprocess(path.parent)["resolution"])
    run, listed = _load(runtime, path, threads, side), beside(path)
    return listed.after(run) if listed else run


def _load(runtime: Runtime, path: Path, threads: int | None, side: int) -> Runner:
    """Load a file, and refuse what engines do not or each in its own words.

    That is a path that they do not take, and images that are not float32 `[b, 3, side, side]`.
    """
    try:
        run = runtime.load(path, threads)
    except Exception as error:
        if any(unicodedata.category(letter) == "Cs" for letter in str(path)):  # a byte that is not of UTF-8
            raise CompressError(f"{runtime.name} does not read {path}, whose name is not Unicode; rename it") from error
        raise
    shape = (3, side, side)

    def guarded(images: Array) -> Array:
        require_images(path, images, shape)
        return run(np.ascontiguousarray(images))

    return guarded


def class_list(file: Path, classes: Sequence[str]) -> ClassList | None:
    """Read the class list that `preprocess.json` names beside a file; None for a file that gives logits.

    Raises:
        CompressError: it is missing, damaged, or of other classes than `preprocess.json` lists.
    """
    if not gives_embeddings(file.parent):
        return None
    listed = ClassList.read(file.parent)
    if listed.names != tuple(classes):
        other = f"{CLASSES} and {PREPROCESS} of {file.parent} list different classes"
        raise CompressError(f"{other}; write both by `compress-model classes`")
    return listed


def find_artifact(path: Path, runtime: str | None = None) -> tuple[Path, str]:
    """Find the file to load at a path, and the runtime to load it with; no runtime is imported, no file read.

    Raises:
        UsageError: the file does not exist or is not an artifact, or the runtime is unknown or does not read it.
    """
    endings = tuple(dict.fromkeys(ending for entry in RUNTIMES.values() for ending in entry.reads))
    candidates = RUNTIMES
    if runtime is not None:
        own = runtime_entry(runtime)
        candidates = {runtime: own}
        endings = tuple(dict.fromkeys((*own.reads, *endings)))  # of two files, the one that is its own
    file = _file(path, endings, runtime is not None)
    if not file.name.endswith(endings):
        raise UsageError(f"{path} is not an artifact: runtimes read files that end in {', '.join(endings)}")
    names = [name for name, entry in candidates.items() if file.name.endswith(entry.reads)]
    if not names:
        assert runtime
        raise UsageError(f"the runtime {runtime} does not read {file}: it reads {', '.join(candidates[runtime].reads)}")
    return file, _for_device(file, names)


def _for_device(file: Path, names: Sequence[str]) -> str:
    """Return the first of the runtimes that read a file; of one that has files for each device, the folder's."""
    same = [name for name in names if RUNTIMES[name].where == RUNTIMES[names[0]].where]
    formats = {name: find_runtime(name).format for name in same} if len(same) > 1 else {}
    folders = {f"{own}{end}": name for name, own in reversed(formats.items()) for end in ("", *(f"-{p}" for p in HALF))}
    return folders.get(file.parent.name, names[0])


def _file(path: Path, endings: Sequence[str], take_first: bool) -> Path:
    """Find the file at a path; of several in a folder take the first by its ending, or refuse."""
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder")
    if not path.is_dir():
        return path
    files = [path / f"model{ending}" for ending in endings if (path / f"model{ending}").exists()]
    if not files and path.name.endswith(tuple(endings)):
        return path  # of a format whose file is a folder, as Core ML's
    if not files:
        inside = sorted(child.parent for ending in endings for child in path.glob(f"*/model{ending}"))
        hint = f"; did you mean {inside[0]}?" if inside else ""
        names = " or ".join(f"model{ending}" for ending in endings)
        raise UsageError(f"{path} is not an artifact: it holds no {names}{hint}")
    if len(files) > 1 and not take_first:
        raise UsageError(f"{path} holds {', '.join(file.name for file in files)}: name one of these files")
    return files[0]
