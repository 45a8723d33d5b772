"""Image files of a folder with one folder per class, and checks of its layout."""

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
from compress.utils.messages import truncate_list

MAX_DEPTH = 100  # deepest nesting of folders that is searched for images; a path cannot be much longer anyway
LAYOUT = (
    "expected train/CLASS/ and test/CLASS/, and optionally val/CLASS/ and unlabeled/; without test/, `test: 0.2` in "
    "data cuts a fifth off, and then CLASS/ alone is enough"
)


@dataclass(frozen=True)
class Tree:
    """Images of a folder."""

    root: Path  # the folder
    classes: tuple[str, ...]  # names of the classes, sorted
    folders: dict[str, str]  # name of each part's folder (`val` or `validation`), by part
    # files of each part, sorted by name, with their labels; None for `unlabeled`
    parts: dict[str, tuple[list[Path], Labels | None]]

    def labels(self, part: str) -> Labels:
        labels = self.parts[part][1]
        assert labels is not None
        return labels


def find_images(root: Path, *, without_test: bool = False) -> Tree:
    """List the images below `root`.

    Hidden files and files without the extension of an image are ignored. Links are followed, each folder once. With
    `without_test`, `test/` may be missing; without `train/` too, each folder but `unlabeled/` is a class.

    Raises:
        CompressError: a folder cannot be read.
        UsageError: the layout is wrong.
    """
    folders = _parts(root, without_test)
    classes = tuple(name for name in subfolders(root / folders["train"]) if name not in _other_folders(folders))
    if len(classes) < 2:
        there = f"only {classes[0]}" if classes else "none"
        raise UsageError(f"{root / folders['train']}: expected two or more class folders, found {there}")
    parts: dict[str, tuple[list[Path], Labels | None]] = {}
    others = _other_folders(folders)
    for part, name in folders.items():
        if part == "unlabeled":
            files = list(image_files(root / name))
            if not files:
                raise UsageError(f"{root / name}: no images found ({endings()}); add images or remove the folder")
            parts[part] = (files, None)
        else:
            parts[part] = _labelled(root / name, classes, others)
    return Tree(root, classes, folders, parts)


def _other_folders(folders: dict[str, str]) -> set[str]:
    """Names of folders beside the class folders that are not classes."""
    return {"unlabeled"} if folders["train"] == "." else set()


def _parts(root: Path, without_test: bool) -> dict[str, str]:
    """Name of each part's folder, by part."""
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
            raise UsageError(f"data.path: {root}: folder {name}/ not found (there: {truncate_list(there)}); {LAYOUT}")
    if "val" in there and "validation" in there:
        raise UsageError(f"data.path: {root} has both val/ and validation/; remove one")
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


def _labelled(folder: Path, classes: tuple[str, ...], others: set[str]) -> tuple[list[Path], Labels]:
    loose = next((entry.name for entry in _entries(folder) if _is_image(entry.name) and not _is_folder(entry)), None)
    if loose:
        raise UsageError(f"{folder / loose} is outside of a class folder; move it to {folder}/CLASS/")
    there = [name for name in subfolders(folder) if name not in others]
    missing = [name for name in classes if name not in there]
    if missing:
        raise UsageError(f"{folder}: no folder for the class {truncate_list(missing)} of train/; add it")
    extra = [name for name in there if name not in classes]
    if extra:
        raise UsageError(f"{folder}: the class {truncate_list(extra)} is not in train/; add it there or remove it")
    files = [list(image_files(folder / name)) for name in classes]
    empty = [name for name, own in zip(classes, files, strict=True) if not own]
    if empty:
        raise UsageError(f"{folder}: no images in {truncate_list(empty)}; every class needs at least one ({endings()})")
    labels = np.repeat(np.arange(len(classes)), [len(own) for own in files])
    return [file for own in files for file in own], labels


def image_files(folder: Path, seen: set[tuple[int, int]] | None = None, depth: int = 0) -> Iterator[Path]:
    """Yield the image files at any depth, sorted by name within each folder; pipes and devices are ignored.

    Raises:
        CompressError: a folder cannot be read.
        UsageError: folders are nested deeper than `MAX_DEPTH`.
    """
    if depth > MAX_DEPTH:
        raise UsageError(f"{str(folder)[:200]}...: folders are nested more than {MAX_DEPTH} deep")
    seen = set() if seen is None else seen
    try:
        status = folder.stat()
    except OSError as error:
        raise _unreadable(folder, error) from error
    if (status.st_dev, status.st_ino) in seen:  # a link to a folder above
        return
    seen.add((status.st_dev, status.st_ino))
    for entry in _entries(folder):
        if _is_folder(entry):
            yield from image_files(folder / entry.name, seen, depth + 1)
        elif _is_image(entry.name) and not _is_special(entry):
            yield folder / entry.name  # a link to nowhere is reported when it is read


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in `folder`, sorted, without hidden ones."""
    return [entry.name for entry in _entries(folder) if _is_folder(entry)]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Entries of a folder, sorted by name, without hidden ones."""
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
    """Whether an entry is a pipe, socket or device, or a link to one: reading it could block forever."""
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
    """Extensions of image files, for messages."""
    return " ".join(sorted(ENDINGS))
