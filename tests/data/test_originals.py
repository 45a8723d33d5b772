"""The original of every image of prepared data."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from data.packing import WRITERS, Writer, packer, rows_of

from compress.data.image_io import decode
from compress.data.originals import Originals
from compress.data.prepared import SPLITS, ImageData, prepare
from compress.recipe.data import FileData
from compress.store.store import Store
from compress.utils.errors import CompressError


@pytest.fixture(params=WRITERS)
def write(request: pytest.FixtureRequest) -> Writer:
    return packer(request.param)


def check_originals(data: ImageData, originals: Originals) -> None:
    """Every stored image is its decoded original, whatever the order in which they are read."""
    for split in SPLITS:
        images = getattr(data, split).images
        rows = np.random.default_rng(0).permutation(np.repeat(np.arange(len(images)), 2))
        for order in (np.arange(len(images)), rows):
            found = [decode(image, 16) for image in originals.read(split, order)]
            assert len(found) == len(order)
            assert all(np.array_equal(images[row], pixels) for row, pixels in zip(order, found, strict=True))


def packed(photos: Path, write: Writer, tmp_path: Path) -> FileData:
    """Photos without a test split, of which one is broken."""
    shutil.rmtree(photos / "test")
    (photos / "train" / "cat" / "03.png").write_bytes(b"no image (at all)")
    settings = write(rows_of(photos, without_test=True), tmp_path / "packed")
    return settings.model_copy(update={"test": 0.3, "broken": "skip", "labeled": 6})


def test_originals_are_what_was_decoded(photos: Path, store: Store, write: Writer, tmp_path: Path) -> None:
    data = prepare(packed(photos, write, tmp_path), store, 5)
    assert data.originals and data.skipped == 1 and len(data.unlabeled) > 4
    check_originals(data, data.originals)


def test_a_source_that_lost_images_is_one_line(photos: Path, store: Store, write: Writer, tmp_path: Path) -> None:
    settings = write(rows_of(photos), tmp_path / "packed")
    data = prepare(settings, store, 0)
    for split in ("train", "test", "unlabeled"):
        shutil.rmtree(photos / split / "dog", ignore_errors=True)
    for number in range(3, 10):
        (photos / "train" / "cat" / f"{number:02}.png").unlink()
    shutil.copytree(photos / "train" / "cat", photos / "train" / "cow")
    shutil.copytree(photos / "test" / "cat", photos / "test" / "cow")
    shutil.rmtree(tmp_path / "packed")
    write(rows_of(photos), tmp_path / "packed")
    with pytest.raises(CompressError, match="has changed since its images were prepared; rerun"):
        list(Originals(settings, store.path(data.key)).read("train", range(len(data.train))))
