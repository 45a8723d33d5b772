"""OOD images are decoded like the images of the data that they are compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data.test_file_images import folder, photo
from PIL import Image

from compress.data.ood import list_ood, prepare_ood
from compress.data.prepared import prepare
from compress.store.store import Store
from compress.utils.errors import CompressError


@pytest.fixture
def others(tmp_path: Path) -> Path:
    photo(tmp_path / "others" / "big.jpg", 640, 480)
    return tmp_path / "others"


def test_they_have_the_pixels_that_they_have_as_test_images(photos: Path, others: Path, store: Store) -> None:
    found = {}
    for images in ("pixels", "files"):
        settings = folder(photos, images=images)
        found[images] = prepare_ood(str(others), settings, prepare(settings, store, 0), store)
    photo(photos / "test" / "cat" / "zz.jpg", 640, 480)  # the last of its class
    for images, ood in found.items():
        data = prepare(folder(photos, images=images), store, 0)
        assert np.array_equal(ood.images[0], data.test.images[3]), images
    assert found["pixels"].key == found["files"].key


def test_images_of_too_many_pixels_are_refused(photos: Path, others: Path, store: Store) -> None:
    settings = folder(photos, max_pixels=307_199)
    data = prepare(settings, store, 0)
    with pytest.raises(
        CompressError, match=r"measure\.ood: .*big\.jpg \(640 x 480 pixels .*; raise `max_pixels` in data"
    ):
        prepare_ood(str(others), settings, data, store)


def test_images_that_the_data_admits_are_read(
    photos: Path, others: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)  # PIL refuses twice as many
    settings = folder(photos, max_pixels=307_200)
    assert len(prepare_ood(str(others), settings, prepare(settings, store, 0), store).images) == 1


def test_another_release_of_the_decoder_decodes_again(
    photos: Path, others: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = set()
    for version in ("13.0.0", "13.0.1", "13.1.0"):
        monkeypatch.setattr("compress.data.image_io.version_of", lambda package, version=version: version)
        keys.add(list_ood(str(others), folder(photos), 16, store).key)
    assert len(keys) == 2
