"""Which image files lie in a folder of images, and everything that may be wrong with its layout."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compress.data.image_io import ENDINGS
from compress.data.source import Labels
from compress.utils.errors import CompressError, UsageError
from compress.utils.messages import few

DEEPEST = 100
"""Folders in folders below which no images are looked for; a path cannot be much longer anyway."""
LAYOUT = (
    "it should hold train/CLASS/ and test/CLASS/, and may hold val/CLASS/ and unlabeled/; `test: 0.2` in data cuts a "
    "fifth off where there is no test/, and then CLASS/ alone is enough"
)


@dataclass(frozen=True)
class Tree:
    """Files of each part, sorted by name, with their labels; `unlabeled` has None.

    Attributes:
        folders: the folder's own name of each part (`val` or `validation`).
    """

    root: Path
    classes: tuple[str, ...]
    folders: dict[str, str]
    parts: dict[str, tuple[list[Path], Labels | None]]

    def labels(self, part: str) -> Labels:
        labels = self.parts[part][1]
        assert labels is not None
        return labels


def find(root: Path, *, without_test: bool = False) -> Tree:
    """List the images below `root`.

    Hidden files and files without an image's ending are passed over. Links are followed, each folder once.
    With `without_test` there may be no `test/`; where there is no `train/` either, each folder is a class of it, but
    for `unlabeled/`.

    Raises:
        CompressError: a folder cannot be read.
        UsageError: the layout is wrong.
    """
    folders = _parts(root, without_test)
    classes = tuple(name for name in subfolders(root / folders["train"]) if name not in _beside(folders))
    if len(classes) < 2:
        found = f"only {classes[0]}" if classes else "none"
        train = root / folders["train"]
        raise UsageError(f"{train} needs a folder for each of two or more classes, and has {found}")
    parts: dict[str, tuple[list[Path], Labels | None]] = {}
    for part, name in folders.items():
        if part == "unlabeled":
            files = list(image_files(root / name))
            if not files:
                raise UsageError(f"{root / name} holds no image ({endings()}); remove it, or put images into it")
            parts[part] = (files, None)
        else:
            parts[part] = _labelled(root / name, classes, _beside(folders))
    return Tree(root, classes, folders, parts)


def _beside(folders: dict[str, str]) -> set[str]:
    """Folders beside those of the classes that are none."""
    return {"unlabeled"} if folders["train"] == "." else set()


def _parts(root: Path, without_test: bool) -> dict[str, str]:
    try:
        if not stat.S_ISDIR(root.stat().st_mode):
            raise UsageError(f"data.path: {root} is a file, not a folder; {LAYOUT}")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"data.path: {root} does not exist; {LAYOUT}") from error
    except OSError as error:
        raise _unreadable(root, error) from error
    there = subfolders(root)
    if without_test and not {"train", "test"} & set(there):
        return {"train": "."} | ({"unlabeled": "unlabeled"} if "unlabeled" in there else {})
    for name in ("train",) if without_test else ("train", "test"):
        if name not in there:
            raise UsageError(f"data.path: {root} has no folder {name}/ (it has {few(there)}); {LAYOUT}")
    if "val" in there and "validation" in there:
        raise UsageError(f"data.path: {root} has both val/ and validation/; keep one")
    folders = {"train": "train"}
    for part, name in (
        ("test", "test"),
        ("validation", "val"),
        ("validation", "validation"),
        ("unlabeled", "unlabeled"),
    ):
        if name in there:
            folders[part] = name
    return folders


def _labelled(folder: Path, classes: tuple[str, ...], beside: set[str]) -> tuple[list[Path], Labels]:
    loose = next((entry.name for entry in _entries(folder) if _is_image(entry.name) and not _is_folder(entry)), None)
    if loose:
        raise UsageError(f"{folder / loose} lies outside a class; move it to {folder}/CLASS/")
    there = [name for name in subfolders(folder) if name not in beside]
    missing = [name for name in classes if name not in there]
    if missing:
        raise UsageError(f"{folder} has no folder of the class {few(missing)}, which train/ has")
    extra = [name for name in there if name not in classes]
    if extra:
        raise UsageError(f"{folder} has the class {few(extra)}, which train/ has not")
    files = [list(image_files(folder / name)) for name in classes]
    empty = [name for name, found in zip(classes, files, strict=True) if not found]
    if empty:
        raise UsageError(f"{folder}: no image in {few(empty)}; each class needs one at least ({endings()})")
    labels = np.repeat(np.arange(len(classes)), [len(found) for found in files])
    return [file for found in files for file in found], labels


def image_files(folder: Path, seen: set[tuple[int, int]] | None = None, depth: int = 0) -> Iterator[Path]:
    """Image files at any depth, sorted by name within each folder. Pipes and devices are none, whatever their name.

    Raises:
        CompressError: a folder cannot be read.
        UsageError: folders lie in one another beyond `DEEPEST`.
    """
    if depth > DEEPEST:
        raise UsageError(f"{str(folder)[:200]}...: more than {DEEPEST} folders lie in one another")
    seen = set() if seen is None else seen
    try:
        status = folder.stat()
    except OSError as error:
        raise _unreadable(folder, error) from error
    if (status.st_dev, status.st_ino) in seen:  # a link that leads back
        return
    seen.add((status.st_dev, status.st_ino))
    for entry in _entries(folder):
        if _is_folder(entry):
            yield from image_files(folder / entry.name, seen, depth + 1)
        elif _is_image(entry.name) and not _is_special(entry):
            yield folder / entry.name  # a link to nowhere is said when it is read


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder that are not hidden, sorted."""
    return [entry.name for entry in _entries(folder) if _is_folder(entry)]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder and is not hidden, sorted by name."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(folder, error) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_special(entry: os.DirEntry[str]) -> bool:
    """A pipe, a socket or a device, or a link to one: reading it could last for ever."""
    if entry.is_file(follow_symlinks=False):
        return False
    try:
        return not stat.S_ISREG(entry.stat().st_mode)
    except OSError:  # a link to nowhere
        return False


def _unreadable(path: Path, error: OSError) -> CompressError:
    return CompressError(f"{path} cannot be read: {error.strerror}")


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in ENDINGS  # noqa: PTH122 - a Path each is slow for a million files


def endings() -> str:
    """Endings of the files that count as images, for a message."""
    return " ".join(sorted(ENDINGS))
