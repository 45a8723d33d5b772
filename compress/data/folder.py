"""`image-folder`: `train/CLASS/`, `test/CLASS/`, and optionally `val/CLASS/` and `unlabeled/`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from compress.data.decoding import file_source
from compress.data.listing import Listing, list_files
from compress.data.tree import find_images
from compress.recipe.data import FileData
from compress.utils.resources import expand


class FolderData(FileData):
    """Folders of images: `train/CLASS/`, `val/CLASS/`, `test/CLASS/`, `unlabeled/`; with `test`, `CLASS/` is enough."""

    source: Literal["image-folder"]


def list_folder(settings: FolderData) -> Listing:
    """List the images of a folder; see `listing.list_images`."""
    tree = find_images(Path(expand(settings.path)).expanduser(), without_test=settings.test is not None)
    return list_files(tree.root, tree.classes, tree.parts, tree.folders, tree.left_out, tree.notes)


SOURCE = file_source(FolderData, "folders of images, one folder per class", list_folder)
