"""`image-folder`: `train/CLASS/`, `test/CLASS/`, and where they exist `val/CLASS/` and `unlabeled/`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from compress.data.decoding import file_source
from compress.data.listing import Listing, of_files
from compress.data.tree import find
from compress.recipe.data import FileData
from compress.utils.resources import expand


class FolderData(FileData):
    """Folders of images: `train/CLASS/`, `val/CLASS/`, `test/CLASS/`, `unlabeled/`; with `test`, `CLASS/` is enough."""

    source: Literal["image-folder"]


def listing(settings: FolderData) -> Listing:
    """What the folder holds.

    Raises:
        CompressError: something cannot be read.
        UsageError: it is not laid out as it should be; the line says where and what would be right.
    """
    tree = find(Path(expand(settings.path)).expanduser(), without_test=settings.test is not None)
    return of_files(tree.root, tree.classes, tree.parts, tree.folders)


SOURCE = file_source(FolderData, "folders of images, one folder per class", listing)
