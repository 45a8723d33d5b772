"""`image-folder`: `train/CLASS/`, `test/CLASS/`, and where they exist `val/CLASS/` and `unlabeled/`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from compress.data.digests import BLOCK, THREADS, digests
from compress.data.files import BrokenImage, decode
from compress.data.raw import Contents, Part, Pixels, Raw, Source
from compress.data.tree import Tree, find
from compress.errors import CompressError
from compress.hashing import key_of
from compress.progress import task
from compress.recipe.data import FolderData
from compress.resources import expand


@dataclass(frozen=True)
class Decoded:
    """What became of a list of files: the part, and each file that was no image with the reason."""

    part: Part
    broken: tuple[str, ...]


def contents(settings: FolderData, cache: Path | None) -> Contents:
    """What the folder holds. The fingerprint is of bytes and classes: names and times of files do not matter.

    Raises:
        CompressError: something cannot be read.
        UsageError: it is not laid out as it should be; the line says where and what would be right.
    """
    tree = _tree(settings)
    hashes = iter(digests([file for files, _ in tree.parts.values() for file in files], cache, tree.root.name))
    parts = {
        name: [[next(hashes), int(label)] for label in (labels if labels is not None else [-1] * len(files))]
        for name, (files, labels) in tree.parts.items()
    }
    counts = np.bincount(tree.labels("train"), minlength=len(tree.classes))
    fingerprint = key_of(classes=tree.classes, parts=parts)
    return Contents(fingerprint, tree.classes, "validation" in tree.parts, tuple(counts.tolist()))


def read(settings: FolderData, scratch: Path) -> Raw:
    """Decode all files into arrays below `scratch`.

    Raises:
        CompressError: a file is no image and the recipe refuses that, or no image of a class is left.
    """
    tree = _tree(settings)
    decoded = {name: _decode_part(tree, name, settings, scratch) for name in tree.parts}
    for name, result in decoded.items():
        _check_left(tree, name, result)
    parts = {name: result.part for name, result in decoded.items()}
    return Raw(classes=tree.classes, **parts, skipped=tuple(text for d in decoded.values() for text in d.broken))


def _tree(settings: FolderData) -> Tree:
    return find(Path(expand(settings.path)).expanduser())


def _decode_part(tree: Tree, name: str, settings: FolderData, scratch: Path) -> Decoded:
    files, labels = tree.parts[name]
    side = settings.resolution
    kept, broken = [], []
    path = scratch / f"{name}.bin"
    with path.open("wb") as out, task(f"decoding {name}", len(files)) as advance:
        for row, pixels in enumerate(_in_blocks(files, lambda file: _try(file, side), advance)):
            if isinstance(pixels, str):
                broken.append(f"{files[row].relative_to(tree.root)} ({pixels})")
                if settings.broken == "refuse":
                    raise CompressError(
                        f"{tree.root}: {broken[0]} is no image that can be read; remove it, or set data.broken to skip"
                    )
            else:
                kept.append(row)
                out.write(pixels.tobytes())
    shape = (len(kept), 3, side, side)
    images: Pixels = np.memmap(path, np.uint8, "r", shape=shape) if kept else np.empty(shape, np.uint8)
    return Decoded(Part(images, None if labels is None else labels[kept]), tuple(broken))


def _try(file: Path, side: int) -> Pixels | str:
    try:
        return decode(file, side)
    except BrokenImage as error:
        return str(error)


def _in_blocks(
    files: Sequence[Path], work: Callable[[Path], Pixels | str], advance: Callable[..., None]
) -> Iterable[Pixels | str]:
    """Results in order, a block at a time, so that no more than a block lies in memory."""
    with ThreadPoolExecutor(THREADS) as pool, warnings.catch_warnings():
        # Too many pixels are an error of ours; other warnings of PIL are about metadata.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for start in range(0, len(files), BLOCK):
            block = list(pool.map(work, files[start : start + BLOCK]))
            advance(len(block))
            yield from block


def _check_left(tree: Tree, name: str, result: Decoded) -> None:
    labels = result.part.labels
    if labels is None:
        return
    counts = np.bincount(labels, minlength=len(tree.classes))
    gone = [tree.classes[row] for row in np.flatnonzero(counts == 0)]
    if gone:
        raise CompressError(
            f"{tree.root / tree.folders[name]}: no image is left of {', '.join(gone)}, as all files of it are broken: "
            f"{result.broken[0]}"
        )


SOURCE = Source(contents, read)
