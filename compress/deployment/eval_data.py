"""Images with labels for an artifact: one folder a class, or the test images of a data set."""

from __future__ import annotations

import tempfile
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compress.data.image_io import ENDINGS
from compress.data.tree import endings, image_files, subfolders
from compress.deployment.preprocess import Picture
from compress.utils.errors import UsageError
from compress.utils.messages import few
from compress.utils.resources import config_names, expand, shipped


@dataclass(frozen=True)
class Labelled:
    """Images that an artifact is tried on.

    Attributes:
        split: What they are called in a record.
        images: Files, or pixels uint8 `[h, w, 3]`.
        labels: int64 `[images]`: places in the artifact's classes.
        left_out: `{folder, images}` of what belongs to none of its classes.
    """

    split: str
    images: Sequence[Picture]
    labels: np.ndarray[Any, Any]
    left_out: list[dict[str, Any]]


def labelled(classes: Sequence[str], data: Path | str) -> Labelled:
    """Images of an artifact's classes, which are matched by name.

    Args:
        classes: Of the artifact.
        data: A folder with one folder a class, or, where there is no such folder, the name of a shipped data set, of
            which the test images are taken; those that torchvision reads are refused, as artifacts need no torch.

    Raises:
        UsageError: there is no such folder or name, it has none of the classes, or they hold no image.
    """
    # One file system keeps an accent in its letter, another beside it.
    numbers = {_name(name): label for label, name in enumerate(classes)}
    named = str(data) in config_names("data") and not Path(data).exists()
    return _data_set(numbers, classes, str(data)) if named else _folder(numbers, classes, Path(data))


def _data_set(numbers: dict[str, int], classes: Sequence[str], name: str) -> Labelled:
    import yaml

    from compress.data import sample

    settings = yaml.safe_load((shipped("configs") / "data" / f"{name}.yaml").read_text(encoding="utf-8"))
    if settings["source"] == "image-folder":
        return _folder(numbers, classes, Path(expand(settings["path"])).expanduser() / "test")
    if settings["source"] != "cifar10-sample":
        raise UsageError(
            f"--data {name}: torchvision reads its images; give a folder with one folder of images a class"
        )
    with tempfile.TemporaryDirectory() as scratch:
        raw = sample.read(sample.SampleData(source="cifar10-sample"), Path(scratch))
    test = raw.test
    assert test is not None and test.labels is not None
    places = np.array([numbers.get(_name(one), -1) for one in raw.classes])[test.labels]
    known = places >= 0
    if not known.any():
        raise UsageError(f"{name} has no class of the artifact ({few(classes)}), it has {few(raw.classes)}")
    counts = np.bincount(test.labels[~known], minlength=len(raw.classes))
    left_out = [{"folder": raw.classes[row], "images": int(counts[row])} for row in np.flatnonzero(counts)]
    return Labelled("test", [*test.images[known].transpose(0, 2, 3, 1)], places[known], left_out)


def _folder(numbers: dict[str, int], classes: Sequence[str], data: Path) -> Labelled:
    if not data.is_dir():
        known = config_names("data") if len(data.parts) == 1 else []
        hint = f"; of the data sets there is {few(known)}" if known else ""
        raise UsageError(f"{data}: {'a file, not a folder' if data.exists() else f'no such folder{hint}'}")
    there = subfolders(data)
    known = [name for name in there if _name(name) in numbers]
    if not known:
        part = next((part for part in there if {_name(n) for n in subfolders(data / part)} & set(numbers)), None)
        hint = f"; did you mean {data / part}?" if part else ""
        raise UsageError(f"{data} has no folder of a class ({few(classes)}), it has {few(there)}{hint}")
    files = {name: list(image_files(data / name)) for name in there}
    labels = np.array([numbers[_name(name)] for name in known for _ in files[name]], np.int64)
    if not labels.size:
        raise UsageError(f"{data} holds no image in the folders of its classes ({endings()})")
    left_out = [{"folder": name, "images": len(files[name])} for name in there if name not in known]
    loose = sum(file.suffix.lower() in ENDINGS and file.is_file() for file in data.iterdir())
    if loose:
        left_out.append({"folder": ".", "images": loose})
    return Labelled(data.resolve().name, [file for name in known for file in files[name]], labels, left_out)


def _name(text: str) -> str:
    return unicodedata.normalize("NFC", text)
