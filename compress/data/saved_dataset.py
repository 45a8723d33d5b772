"""Folders that Hugging Face `datasets` has saved to disk: which Arrow files they have, and of which split."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from compress.data.image_io import is_file
from compress.data.layout import count_file, entries_of, is_folder
from compress.data.left_out import Tally
from compress.data.names import SPLIT_WORDS
from compress.utils.errors import CompressError, UsageError, first_line
from compress.utils.messages import located, truncate_list

DESCRIPTIONS = ("dataset_dict.json", "dataset_info.json", "state.json")
"""Files that describe a saved dataset."""


def saved_shards(folder: Path, tally: Tally | None = None) -> list[tuple[Path, str]]:
    """Find the Arrow files of a `DatasetDict` or `Dataset` that `datasets` saved to disk, each with its part.

    Files and folders that its description does not name are counted in `tally`.

    Raises:
        CompressError: the description of the folder cannot be read.
        UsageError: the folder is not a saved dataset, or has a split of an unknown name.
    """
    if is_file(folder / "dataset_dict.json"):
        splits = _json(folder / "dataset_dict.json").get("splits")
        if not isinstance(splits, list) or len(set(map(str, splits))) != max(1, len(splits)):
            raise CompressError(f"{folder / 'dataset_dict.json'}: expected a list of distinct splits")
        unknown = [str(split) for split in splits if str(split).lower() not in SPLIT_WORDS]
        if unknown:
            raise UsageError(
                f"{folder}: unknown split {truncate_list(unknown)}; allowed: train, validation, test or unlabeled"
            )
        folders = [(folder / split, SPLIT_WORDS[split.lower()]) for split in splits]
    elif is_file(folder / "state.json"):
        folders = [(folder, "train")]
    else:
        raise UsageError(
            f"data.path: {located(folder)} has neither dataset_dict.json nor state.json; give a folder that `datasets` "
            "saved to disk"
        )
    shards = [(file, part) for split, part in folders for file in _data_files(split)]
    if tally is not None:
        _count_unnamed([folder, *(split for split, _ in folders)], {file for file, _ in shards}, tally)
    return shards


def _count_unnamed(folders: Sequence[Path], files: set[Path], tally: Tally) -> None:
    for folder in dict.fromkeys(folders):
        for entry in entries_of(folder, tally):
            path = folder / entry.name
            if is_folder(entry):
                if path not in folders:
                    tally.add("folder", f"{entry.name}: not a split", path)
            elif path not in files and entry.name not in DESCRIPTIONS:
                count_file(tally, folder, entry.name)


def _data_files(folder: Path) -> list[Path]:
    state = _json(folder / "state.json")
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise UsageError(f"{folder} is a selection of rows; save it again after `flatten_indices()`")
    rows = state.get("_data_files")
    names = [str(row.get("filename")) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    if len(set(names)) != max(1, len(names)) or any(Path(name).name != name or name == ".." for name in names):
        raise CompressError(f"{folder / 'state.json'}: expected a list of distinct data files beside it")
    return [folder / name for name in names]


def _json(file: Path) -> dict[str, object]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CompressError(f"{file} cannot be read: {first_line(error)}") from error
    if not isinstance(value, dict):
        raise CompressError(f"{file} cannot be read: expected a JSON object")
    return value
