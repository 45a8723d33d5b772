"""Which folders of an image tree are splits, whatever they are called and however deep they lie."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from compress.data.left_out import HIDDEN, Tally, file_kind
from compress.data.names import SPLIT_WORDS, is_like_split, parts_in
from compress.utils.errors import CompressError, UsageError
from compress.utils.messages import join_words, located, truncate_list

LAYOUT = (
    "expected train/CLASS/ and test/CLASS/, and optionally val/CLASS/ and unlabeled/; without test/, `test: 0.2` in "
    "data cuts a fifth off, and then CLASS/ alone is enough"
)
LABELLED = ("train", "validation", "test")
SYSTEM_FOLDERS = frozenset(
    (
        *("@eadir", "@tmp", "#recycle", "#snapshot"),  # Synology
        *("@recycle", "@recently-snapshot", "@__thumb"),  # QNAP
        *("~snapshot", "lost+found", "lost.dir"),  # NetApp, Linux, Android
        *("$recycle.bin", "recycler", "system volume information", "found.000"),  # Windows
        *("__macosx", "network trash folder", "temporary items"),
        "__pycache__",
    )
)
"""Folders, in lower case, that systems and their tools leave in a tree: thumbnails, deleted files and such."""
MAX_WRAPPERS = 8  # folders in folders that are looked into for the one to suggest
_FOLD = re.compile(r"(fold|split|part|subset|cv|k)[ _.-]?\d+", re.IGNORECASE)


def find_parts(root: Path, without_test: bool) -> dict[str, str]:
    """Return the folder of each part, relative to `root`, by part; `.` for train where classes lie in `root` itself.

    Split names (`train`, `Training`, `valid`, `dev`, ...) are known in any case; compounds (`seg_train`, `testset`,
    `TrainImages`) count as well where their sub-folders are those of the others. A folder in a folder of the same name
    is unwrapped. With `without_test`, test may be missing; without a train folder too, each folder but `unlabeled` is a
    class.

    Raises:
        CompressError: a folder cannot be read.
        UsageError: there is no such folder, or its layout is wrong.
    """
    _require_folder(root)
    there = subfolders(root)
    exact = [(SPLIT_WORDS[name.lower()], name) for name in there if name.lower() in SPLIT_WORDS]
    unlabeled = [(part, name) for part, name in exact if part == "unlabeled"]
    labelled = [(part, name) for part, name in exact if part != "unlabeled"]
    others = [name for name in there if name.lower() not in SPLIT_WORDS]
    labelled += _compound(root, others, [name for _, name in labelled])
    has_classes = any(subfolders(root / name) for _, name in labelled)
    if without_test and not has_classes and (not labelled or _are_classes(root, labelled, others)):
        _refuse_splits(root, others)
        return {"train": "."} | _by_part(root, unlabeled)
    folders = _by_part(root, [*labelled, *unlabeled])
    for part in ("train",) if without_test else ("train", "test"):
        if part not in folders:
            hint = _did_you_mean(root)
            raise UsageError(
                f"data.path: {root}: folder {part}/ not found (there: {truncate_list(there)}){hint}; {LAYOUT}"
            )
    return folders


def _require_folder(root: Path) -> None:
    try:
        if not stat.S_ISDIR(root.stat().st_mode):
            raise UsageError(f"data.path: {root} is a file, not a folder; {LAYOUT}")
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # or a name that no folder can have
        raise UsageError(f"data.path: {located(root)} does not exist; {LAYOUT}") from error
    except OSError as error:
        raise unreadable(root, error) from error


def _compound(root: Path, names: Sequence[str], exact: Sequence[str]) -> list[tuple[str, str]]:
    """Return (part, name) of folders such as `seg_train` that hold the same sub-folders as the other splits.

    `train_station` beside `bus_stop` is a class: it shares no sub-folders with another split.
    """
    found = [(parts.pop(), name) for name in names if len(parts := parts_in(name)) == 1]
    inside = {name: set(subfolders(root / _unwrapped(root, name))) for name in [*exact, *(name for _, name in found)]}
    return [
        (part, name)
        for part, name in found
        if part not in {SPLIT_WORDS[other.lower()] for other in exact}
        and (any(inside[name] & inside[other] for other in inside if other != name) or _is_only(name, names, exact))
        and inside[name]
    ]


def _is_only(name: str, names: Sequence[str], exact: Sequence[str]) -> bool:
    return [name] == [*names, *exact]


def _are_classes(root: Path, labelled: Sequence[tuple[str, str]], others: Sequence[str]) -> bool:
    """Whether folders with split names but without class folders are classes: a `train` beside `bus` and `car` is."""
    if not others:
        return False
    for part, name in labelled:
        if part != "train":
            raise UsageError(
                f"data.path: {root / name} has the name of a split, but no class folders; if it is a class, rename it, "
                "else move it elsewhere"
            )
    return True


def _by_part(root: Path, named: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the folder of each part; a `UsageError` if two folders are the same part."""
    folders: dict[str, str] = {}
    for part in (*LABELLED, "unlabeled"):
        names = [name for own, name in named if own == part]
        if len(names) > 1:
            both = join_words([f"{name}/" for name in sorted(names)], "and")
            kind = "both " if len(names) == 2 else ""
            raise UsageError(f"data.path: {root} has {kind}{both}; remove one, or rename it to what it is")
        if names:
            folders[part] = _unwrapped(root, names[0])
    return folders


def _unwrapped(root: Path, name: str) -> str:
    """Return `seg_train/seg_train` for a folder that holds nothing but one of its own name, else `name`."""
    inner = subfolders(root / name)
    if len(inner) == 1 and inner[0].lower() == name.lower() and subfolders(root / name / inner[0]):
        return f"{name}/{inner[0]}"
    return name


def _refuse_splits(root: Path, names: Sequence[str]) -> None:
    """Refuse splits as classes: folds `fold0` and `fold1`, or names like those of splits, with the same sub-folders."""
    if len(names) < 2:
        return
    inside = subfolders(root / names[0])
    folds, like = all(map(_FOLD.fullmatch, names)), all(map(is_like_split, names))
    if not inside or not (folds or (like and len(inside) >= 2)):
        return
    if all(set(subfolders(root / name)) == set(inside) for name in names[1:]):
        way_out = "" if folds else "; if they are classes, rename them"
        raise UsageError(
            f"data.path: {root}: {truncate_list(names)} have the same sub-folders ({truncate_list(inside)}): these "
            f"are splits, not classes; move them to train/, val/ and test/{way_out}"
        )


def require_classes(root: Path, folder: Path, classes: Sequence[str], has_images: Callable[[], bool]) -> None:
    """Raise a `UsageError` for fewer than two class folders, with what is likely meant instead."""
    if len(classes) >= 2:
        return
    there = f"only {classes[0]}" if classes else "none"
    hint = _did_you_mean(root) if folder == root else ""
    if not classes and has_images():
        hint = "; its images are in no class folder: move each to CLASS/, or name the table of their labels"
    raise UsageError(f"{folder}: expected two or more class folders, found {there}{hint}")


def _did_you_mean(root: Path) -> str:
    """Return `; did you mean ...?` where a folder holds the data set in one folder, or in several such wrappers."""
    here = root
    for _ in range(MAX_WRAPPERS):
        there = subfolders(here)
        if len(there) != 1:
            break
        here /= there[0]
    return f"; did you mean {here}?" if here != root and len(subfolders(here)) >= 2 else ""


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in `folder`, sorted, without hidden ones and those of `SYSTEM_FOLDERS`."""
    return [entry.name for entry in entries_of(folder) if is_folder(entry)]


def entries_of(folder: Path, tally: Tally | None = None) -> list[os.DirEntry[str]]:
    """Entries of a folder, sorted by name, without hidden ones and those of `SYSTEM_FOLDERS`, which are counted."""
    try:
        with os.scandir(folder) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
    except OSError as error:
        raise unreadable(folder, error) from error
    kept = []
    for entry in entries:
        hidden = entry.name.startswith(".")
        if not hidden and entry.name.lower() not in SYSTEM_FOLDERS:
            kept.append(entry)
        elif is_folder(entry):
            if tally is not None:
                tally.add("folder", entry.name, folder / entry.name)
        elif not hidden:
            kept.append(entry)
        elif tally is not None:
            tally.add("file", HIDDEN, folder / entry.name)
    return kept


def count_file(tally: Tally | None, folder: Path, name: str) -> None:
    """Count a file that is left out by its ending."""
    if tally is not None:
        tally.add("file", file_kind(name), folder / name)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def unreadable(path: Path, error: OSError) -> CompressError:
    """Return the error of a folder that the system does not let us read."""
    return CompressError(f"{path} cannot be read: {error.strerror}")
