"""The labelled images that an artifact is evaluated on."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from compress.deployment.eval_data import find_labelled
from compress.utils.errors import UsageError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("cat", "other", "truck"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "0.png")
    return tmp_path


def test_a_link_that_gives_images_two_labels_is_refused(photos: Path) -> None:
    (photos / "truck" / "cats").symlink_to(photos / "cat")
    with pytest.raises(
        UsageError, match=r"truck/cats is the folder .*/cat, so that its images are of cat, truck; an im"
    ):
        find_labelled(("cat", "truck"), photos)


def test_a_link_to_a_class_in_a_folder_that_is_none_is_left_out(photos: Path) -> None:
    (photos / "other" / "cats").symlink_to(photos / "cat")
    (photos / "truck" / "again").symlink_to(photos / "truck")
    found = find_labelled(("cat", "truck"), photos)
    assert found.labels.tolist() == [0, 1]
    assert found.left_out == [{"folder": "other", "images": 2}]
