"""Labelled images to evaluate an artifact on: one folder per class, or the test split of a data set."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np

from compress.data.image_io import ENDINGS
from compress.data.layout import count_file, entries_of, is_folder, subfolders
from compress.data.left_out import LeftOut as OtherFiles
from compress.data.left_out import Tally
from compress.data.tree import Seen, endings, image_files, is_image
from compress.deployment.preprocess import Picture
from compress.deployment.runtime import Array
from compress.utils.errors import UsageError
from compress.utils.messages import truncate_list
from compress.utils.names import same_name
from compress.utils.resources import config_names, expand, shipped


class LeftOut(TypedDict):
    """Images in a folder, or of a class of a data set, that belong to none of the artifact's classes."""

    folder: str
    images: int


@dataclass(frozen=True)
class LabelledImages:
    """Images that an artifact is evaluated on."""

    split: str  # name of the images in a record
    images: Sequence[Picture]  # files, or pixels uint8 `[h, w, 3]`
    labels: Array  # int64 `[images]`, indices in the artifact's classes
    left_out: list[LeftOut]  # images without a class of the artifact
    other_files: tuple[OtherFiles, ...] = ()  # what of the folder is no image, by reason


def find_labelled(classes: Sequence[str], data: Path | str) -> LabelledImages:
    """Find images of an artifact's classes, matched by name.

    `data` is a folder with one folder per class, or, where there is no such folder, the name of a shipped data set, of
    which the test split is taken; data sets that torchvision reads are refused, as artifacts need no torch.

    Raises:
        UsageError: there is no such folder or data set, it has none of the classes, or they have no images.
    """
    # Some file systems store an accented letter as one character, others as two.
    numbers = {same_name(name): label for label, name in enumerate(classes)}
    named = str(data) in config_names("data") and not Path(data).exists()
    return _data_set(numbers, classes, str(data)) if named else _folder(numbers, classes, Path(data))


def _data_set(numbers: dict[str, int], classes: Sequence[str], name: str) -> LabelledImages:
    import yaml

    from compress.data import sample

    settings = yaml.safe_load((shipped("configs") / "data" / f"{name}.yaml").read_text(encoding="utf-8"))
    if settings["source"] == "image-folder":
        return _folder(numbers, classes, Path(expand(settings["path"])).expanduser() / "test")
    if settings["source"] != "cifar10-sample":
        raise UsageError(
            f"--data {name}: torchvision reads its images; give a folder with one folder of images per class"
        )
    with tempfile.TemporaryDirectory() as scratch:
        raw = sample.read(sample.SampleData(source="cifar10-sample"), Path(scratch))
    test = raw.test
    assert test is not None and test.labels is not None
    labels = np.array([numbers.get(same_name(one), -1) for one in raw.classes])[test.labels]
    known = labels >= 0
    if not known.any():
        raise UsageError(
            f"{name} has none of the artifact's classes ({truncate_list(classes)}), only {truncate_list(raw.classes)}"
        )
    counts = np.bincount(test.labels[~known], minlength=len(raw.classes))
    left_out = [LeftOut(folder=raw.classes[row], images=int(counts[row])) for row in np.flatnonzero(counts)]
    return LabelledImages("test", [*test.images[known].transpose(0, 2, 3, 1)], labels[known], left_out)


def _folder(numbers: dict[str, int], classes: Sequence[str], data: Path) -> LabelledImages:
    if not data.is_dir():
        known = config_names("data") if len(data.parts) == 1 else []
        hint = f"; the shipped data sets are {truncate_list(known)}" if known else ""
        raise UsageError(f"{data}: {'a file, not a folder' if data.exists() else f'no such folder{hint}'}")
    folders = subfolders(data)
    known = [name for name in folders if same_name(name) in numbers]
    if not known:
        part = next((part for part in folders if {same_name(n) for n in subfolders(data / part)} & set(numbers)), None)
        hint = f"; did you mean {data / part}?" if part else ""
        found = f"only {truncate_list(folders)}{hint}" if folders else "it has no folders"
        raise UsageError(f"{data} has no folder of a class ({truncate_list(classes)}), {found}")
    tally = Tally(data)
    for entry in entries_of(data, tally):
        if not is_image(entry.name) and not is_folder(entry):
            count_file(tally, data, entry.name)
    seen: Seen = {}
    files = {name: list(image_files(data / name, seen, tally=tally, label=same_name(name))) for name in known}
    files |= {name: list(image_files(data / name, tally=tally)) for name in folders if name not in known}
    labels = np.array([numbers[same_name(name)] for name in known for _ in files[name]], np.int64)
    if not labels.size:
        raise UsageError(f"{data} has no images in the folders of its classes ({endings()})")
    left_out = [LeftOut(folder=name, images=len(files[name])) for name in folders if name not in known]
    loose = sum(file.suffix.lower() in ENDINGS and file.is_file() for file in data.iterdir())
    if loose:
        left_out.append(LeftOut(folder=".", images=loose))
    images = [file for name in known for file in files[name]]
    return LabelledImages(data.resolve().name, images, labels, left_out, tally.rows())
