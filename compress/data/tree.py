"""Image files of a folder with one folder per class, and checks of its layout."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compress.data.image_io import ENDINGS
from compress.data.layout import (
    count_file,
    entries_of,
    find_parts,
    is_folder,
    require_classes,
    subfolders,
    unreadable,
)
from compress.data.left_out import SPECIAL, LeftOut, Tally
from compress.data.names import SPLIT_WORDS, order_classes
from compress.data.source import Labels
from compress.utils.errors import UsageError
from compress.utils.messages import truncate_list
from compress.utils.names import same_name

MAX_DEPTH = 100  # deepest nesting of folders that is searched for images; a path cannot be much longer anyway
DOUBTFUL = frozenset((*SPLIT_WORDS, "thumbnails", "thumbnail", "thumbs", "previews", "backup", "tmp", "temp", "cache"))
"""Names of class folders, in lower case, that are rarely those of classes."""
SYSTEM_MARKS = ("@", "#", "$", "~")
"""First characters of the names of folders that systems leave, of which `SYSTEM_FOLDERS` has the usual ones."""


@dataclass(frozen=True)
class Tree:
    """Images of a folder."""

    root: Path  # the folder
    classes: tuple[str, ...]  # names of the classes, as `order_classes` sorts them
    folders: dict[str, str]  # name of each part's folder (`val` or `Testing`), by part
    # files of each part, sorted by name, with their labels; None for `unlabeled`
    parts: dict[str, tuple[list[Path], Labels | None]]
    left_out: tuple[LeftOut, ...] = ()  # what is no image, or in no folder of a part
    notes: tuple[str, ...] = ()  # remarks on the layout, one sentence each

    def labels(self, part: str) -> Labels:
        labels = self.parts[part][1]
        assert labels is not None
        return labels


def find_images(root: Path, *, without_test: bool = False) -> Tree:
    """List the images below `root`.

    Hidden files, folders that systems leave and files without the extension of an image are left out and counted. Links
    are followed, each folder once in a part, and none into two classes. See `find_parts` for the layout. Only
    validation may lack a class.

    Raises:
        CompressError: a folder cannot be read.
        UsageError: the layout is wrong, or links put a folder into two classes.
    """
    folders, tally = find_parts(root, without_test), Tally(root)
    train, flat = root / folders["train"], folders["train"] == "."
    names = [name for name in subfolders(train) if not (flat and name in folders.values())]
    classes = _classes(names)
    require_classes(root, train, tuple(classes), lambda: any(_loose(train)))
    parts: dict[str, tuple[list[Path], Labels | None]] = {}
    for part, name in folders.items():
        if part == "unlabeled":
            files = list(image_files(root / name, tally=tally))
            if not files:
                raise UsageError(f"{root / name}: no images found ({endings()}); add images or remove the folder")
            parts[part] = (files, None)
        else:
            others = set(folders.values()) if name == "." else set()
            parts[part] = _labelled(root / name, part, tuple(classes), others, tally)
    if not flat:
        _count_beside(root, folders, tally)
    return Tree(root, tuple(classes), folders, parts, tally.rows(), tuple(_notes(train, classes, flat)))


def _classes(names: list[str]) -> dict[str, list[str]]:
    """Return the folders of each class, in order: names that differ in the form of their accents only are one class."""
    folders: dict[str, list[str]] = {name: [] for name in order_classes(names)}
    for name in names:
        folders[same_name(name)].append(name)
    return folders


def _labelled(
    folder: Path, part: str, classes: tuple[str, ...], others: set[str], tally: Tally
) -> tuple[list[Path], Labels]:
    if loose := next(_loose(folder), None):
        flat = part != "train" and not subfolders(folder)
        rename = "; or rename the folder to `unlabeled` if its images have no labels" * flat
        raise UsageError(f"{folder / loose} is outside of a class folder; move it to {folder}/CLASS/{rename}")
    entries = entries_of(folder, tally)
    for entry in entries:
        if not is_folder(entry):
            count_file(tally, folder, entry.name)
    there = [entry.name for entry in entries if is_folder(entry) and entry.name not in others]
    own = _classes(there)
    extra = [name for name in own if name not in classes]
    if extra:
        raise UsageError(f"{folder}: the class {truncate_list(extra)} is not in train/; add it there or remove it")
    strict, way_out = part != "validation", "; without it, `test: 0.2` in data cuts a fifth off" * (part == "test")
    missing = [name for name in classes if name not in own]
    if missing and strict:
        raise UsageError(f"{folder}: no folder for the class {truncate_list(missing)} of train/; add it{way_out}")
    seen: Seen = {}
    files = [
        [file for name in own.get(label, ()) for file in image_files(folder / name, seen, tally=tally, label=label)]
        for label in classes
    ]
    empty = [name for name, found in zip(classes, files, strict=True) if not found]
    if empty and (strict or len(empty) == len(classes)):
        needs = "every class needs at least one" if strict else "add some or remove the folder"
        raise UsageError(f"{folder}: no images in {truncate_list(empty)}; {needs} ({endings()})")
    labels = np.repeat(np.arange(len(classes)), [len(found) for found in files])
    return [file for found in files for file in found], labels


def _loose(folder: Path) -> Iterator[str]:
    """Names of the images that lie in a folder itself."""
    return (entry.name for entry in entries_of(folder) if is_image(entry.name) and not is_folder(entry))


def _count_beside(root: Path, folders: dict[str, str], tally: Tally) -> None:
    """Count what lies beside the folders of the parts."""
    used = {name.partition("/")[0] for name in folders.values()}
    for entry in entries_of(root, tally):
        if not is_folder(entry):
            count_file(tally, root, entry.name)
        elif entry.name not in used:
            tally.add("folder", f"{entry.name}: not a split", root / entry.name)
    for name in folders.values():
        outer = root / name.partition("/")[0]
        if "/" in name:
            for entry in entries_of(outer, tally):
                if not is_folder(entry):
                    count_file(tally, outer, entry.name)


def _notes(train: Path, classes: dict[str, list[str]], flat: bool) -> Iterator[str]:
    """Say where folders may not be the classes that are meant."""
    doubtful = [name for name in classes if name.lower() in DOUBTFUL or name.startswith(SYSTEM_MARKS)]
    if doubtful:
        yield f"{truncate_list(doubtful)} in {train.name}/ is read as a class; if it is not one, move it elsewhere."
    if flat:
        unlabeled = [name for name in subfolders(train) if SPLIT_WORDS.get(name.lower()) == "unlabeled"]
        if unlabeled:
            yield f"{unlabeled[0]}/ is read as images without labels: if it is a class, rename it."
    inside = [subfolders(train / name) for names in classes.values() for name in names]
    if len(inside[0]) >= 2 and all(set(own) == set(inside[0]) for own in inside):
        yield (
            f"The classes {truncate_list(classes)} have the same sub-folders ({truncate_list(inside[0])}): if these "
            "are the classes, exchange the two levels."
        )
    thumbnails = [name for own in inside for name in own if name.lower().startswith(("thumb", "preview"))]
    if thumbnails:
        yield (
            f"Class folders hold {len(thumbnails):,} folders {truncate_list(sorted(set(thumbnails)))}, whose images "
            "are read as well: if they are small copies, move them elsewhere."
        )


Seen = dict[tuple[int, int], tuple[Path, str | None]]
"""Folders that have been read, each with its class, by device and inode."""


def image_files(
    folder: Path, seen: Seen | None = None, depth: int = 0, tally: Tally | None = None, label: str | None = None
) -> Iterator[Path]:
    """Yield the image files at any depth, sorted by name within each folder; others are counted in `tally`.

    Links are followed, each folder once. `seen` has those that were read before, `label` is the class of this one.

    Raises:
        CompressError: a folder cannot be read.
        UsageError: folders are nested deeper than `MAX_DEPTH`, or links put one into two classes.
    """
    if depth > MAX_DEPTH:
        raise UsageError(f"{str(folder)[:200]}...: folders are nested more than {MAX_DEPTH} deep")
    seen = {} if seen is None else seen
    try:
        status = folder.stat()
    except OSError as error:
        raise unreadable(folder, error) from error
    first, other = seen.setdefault((status.st_dev, status.st_ino), (folder, label))
    if first is not folder:  # one of them is a link
        if other != label:
            raise UsageError(
                f"{folder} is the folder {first}, so that its images are of {truncate_list((str(other), str(label)))}; "
                "an image has one label, remove a link"
            )
        if tally is not None:
            tally.add("folder", "link to one that is read already", folder)
        return
    for entry in entries_of(folder, tally):
        if is_folder(entry):
            yield from image_files(folder / entry.name, seen, depth + 1, tally, label)
        elif not is_image(entry.name):
            count_file(tally, folder, entry.name)
        elif not _is_special(entry):
            yield folder / entry.name  # a link to nowhere is reported when it is read
        elif tally is not None:
            tally.add("file", SPECIAL, folder / entry.name)


def _is_special(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a pipe, socket or device, or a link to one: reading it could block forever."""
    if entry.is_file(follow_symlinks=False):
        return False
    try:
        return not stat.S_ISREG(entry.stat().st_mode)
    except OSError:  # a link to nowhere
        return False


def is_image(name: str) -> bool:
    """Whether a file has the extension of an image."""
    return os.path.splitext(name)[1].lower() in ENDINGS  # noqa: PTH122 - a Path each is slow for a million files


def endings() -> str:
    """Extensions of image files, for messages."""
    return " ".join(sorted(ENDINGS))
