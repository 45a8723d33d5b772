"""`images: files`: images stay in their files, and everything else is as with `images: pixels`."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.packing import WRITERS, Writer, assert_same, packer, rows_of
from PIL import Image

from compress.data.folder import FolderData
from compress.data.leakage import bytes_remark, find_overlaps
from compress.data.originals import FileImages, Originals, UnreadableOriginal, places
from compress.data.prepared import ImageData, prepare
from compress.data.sources import data_key
from compress.recipe.data import FileData
from compress.store.store import Store
from compress.utils.errors import CompressError


@pytest.fixture(params=WRITERS)
def write(request: pytest.FixtureRequest) -> Writer:
    return packer(request.param)


def both(settings: FileData, store: Store) -> tuple[ImageData, ImageData]:
    """The same data with `images: pixels` and `images: files`."""
    return tuple(prepare(settings.model_copy(update={"images": how}), store, 3) for how in ("pixels", "files"))  # type: ignore[return-value]


def folder(photos: Path, **more: Any) -> FolderData:
    return FolderData(source="image-folder", path=str(photos), resolution=16, **more)


# --- The same data ------------------------------------------------------------------------------------------------


def test_files_have_the_pixels_labels_and_splits(photos: Path, store: Store, write: Writer, tmp_path: Path) -> None:
    pixels, files = both(write(rows_of(photos), tmp_path / "packed"), store)
    assert_same(pixels, files)
    assert pixels.key != files.key and (pixels.resolution, files.resolution) == (16, 16)
    assert not list(store.path(files.key).glob("images-*")), "nothing was decoded into the store"


def test_splits_that_are_cut_are_the_same(photos: Path, store: Store, write: Writer, tmp_path: Path) -> None:
    shutil.rmtree(photos / "test")
    (photos / "train" / "cat" / "03.png").write_bytes(b"no image")
    settings = write(rows_of(photos, without_test=True), tmp_path / "packed")
    pixels, files = both(settings.model_copy(update={"test": 0.3, "broken": "skip", "labeled": 6}), store)
    assert_same(pixels, files)
    assert files.skipped == 1


def test_rows_are_read_as_of_an_array(photos: Path, store: Store) -> None:
    pixels, files = (data.train.images for data in both(folder(photos), store))
    assert isinstance(files, FileImages) and files.shape == pixels.shape and files.nbytes == pixels.nbytes
    mask = np.arange(len(pixels)) % 3 == 0
    for rows in (0, -1, slice(None), slice(5, 1, -2), [3, 3, 0], np.array([-1, 2]), np.array([], int), mask):
        assert np.array_equal(files[rows], pixels[rows]), rows
    assert all(np.array_equal(one, other) for one, other in zip(files, pixels, strict=True))
    for wrong in (len(pixels), [0, -len(pixels) - 1]):
        with pytest.raises(IndexError):
            files[wrong]
    again = pickle.loads(pickle.dumps(files))
    again.threads = 1
    assert np.array_equal(again[:], pixels)


def test_settings_of_loading_are_not_in_the_key(photos: Path) -> None:
    key = data_key(folder(photos), 0)
    assert data_key(folder(photos, workers=3, max_pixels=10**9, images="pixels"), 0) == key
    assert data_key(folder(photos, images="files"), 0) == data_key(folder(photos, images="files", workers=2), 0) != key


def test_copies_in_two_splits_are_found(photos: Path, store: Store) -> None:
    shutil.copy(photos / "train" / "cat" / "04.png", photos / "test" / "dog" / "copy.png")
    (pixels,), (files,) = (find_overlaps(data, store) for data in both(folder(photos, validation=0.05), store))
    assert pixels == files and files.images == 1


def test_copies_that_were_saved_anew_are_found_or_said_not_to_be(
    photos: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Image.open(photos / "train" / "cat" / "04.png") as image:
        image.save(photos / "test" / "dog" / "copy.bmp")
    many = both(folder(photos, validation=0.05), store)
    (pixels,), (files,) = (find_overlaps(data, store) for data in many)
    assert pixels == files and files.images == 1 and not any(map(bytes_remark, many))
    monkeypatch.setattr("compress.data.leakage.MAX_DECODED", 20)
    assert [len(find_overlaps(data, store)) for data in many] == [1, 0], "too many to decode: byte by byte"
    assert [len(bytes_remark(data)) for data in many] == [0, 1]


# --- Broken and large files ---------------------------------------------------------------------------------------


def test_headers_are_checked_before(photos: Path, store: Store, write: Writer, tmp_path: Path) -> None:
    (photos / "train" / "cat" / "03.png").write_bytes(b"no image")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(photos / "train" / "dog" / "f.tif")
    settings = write(rows_of(photos), tmp_path / "packed").model_copy(update={"images": "files"})
    with pytest.raises(CompressError, match=r"is not a readable image; remove it, or set data.broken to skip"):
        prepare(settings, store, 0)
    data = prepare(settings.model_copy(update={"broken": "skip"}), store, 0)
    assert data.skipped == 2 and len(data.train) + len(data.validation) == 19


@pytest.mark.parametrize("part", ["train/cat", "unlabeled/sub0", "test/cat"])
@pytest.mark.parametrize("most", [20, 20_000], ids=["by bytes", "by pixels"])
def test_truncated_files_are_skipped_or_refused_before_training(
    photos: Path, store: Store, most: int, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compress.data.leakage.MAX_DECODED", most)
    photo(photos / part / "cut.jpg", 320, 240)
    file = photos / part / "cut.jpg"
    file.write_bytes(file.read_bytes()[:-300])
    settings = folder(photos, images="files")
    with pytest.raises(CompressError, match=rf"{part}/cut\.jpg \(image file is truncated.* set data.broken to skip"):
        prepare(settings, store, 0)
    skipped = settings.model_copy(update={"broken": "skip"})
    data = prepare(skipped, store, 0)
    (row,) = [row for row in data.left_out if row.kind == "image"]
    assert (row.reason, row.count) == ("not readable", 1) and f"{part}/cut.jpg" in row.first
    assert find_overlaps(data, store) == []
    assert_same(prepare(skipped.model_copy(update={"images": "pixels"}), store, 0), data)


def damage(file: Path) -> None:
    """Overwrite the middle of a file, so that only decoding it shows that it is broken."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 60] = bytes(60)
    file.write_bytes(content)


@pytest.mark.parametrize("most", [20, 20_000], ids=["by bytes", "by pixels"])
def test_damaged_images_that_accuracy_is_measured_on_are_found_before_training(
    photos: Path, store: Store, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compress.data.leakage.MAX_DECODED", most)
    damage(photos / "test" / "dog" / "00.png")
    data = prepare(folder(photos, images="files"), store, 0)
    with pytest.raises(CompressError, match=r"photos: test/dog/00\.png is not a readable image \(.*\); remove it"):
        find_overlaps(data, store)


def test_a_damaged_body_is_one_line_with_the_file(photos: Path, store: Store) -> None:
    file = photos / "train" / "cat" / "03.png"
    damage(file)
    data = prepare(folder(photos, images="files", validation=0.05), store, 0)
    with pytest.raises(
        CompressError, match=r"photos: train/cat/03\.png is not a readable image \(.*\); remove it"
    ) as e:
        data.train.images[:]
    assert str(
        UnreadableOriginal(f"Caught it in a worker.\n  File x\ncompress.UnreadableOriginal: {e.value}\n")
    ) == str(e.value)
    file.unlink()
    with pytest.raises(CompressError, match=r"03\.png cannot be read: No such file"):
        data.train.images[:]


@pytest.mark.parametrize("source", ["parquet", "hf-dataset", "webdataset"])
def test_a_shard_that_shrinks_meanwhile_is_one_line(photos: Path, store: Store, source: str, tmp_path: Path) -> None:
    settings = packer(source)(rows_of(photos), tmp_path / "packed").model_copy(update={"images": "files"})
    images = prepare(settings, store, 0).train.images
    assert images[:].any()
    (tmp_path / "fewer").mkdir()
    packer(source)(rows_of(photos)[::4], tmp_path / "fewer" / "packed")
    shutil.copytree(tmp_path / "fewer" / "packed", tmp_path / "packed", dirs_exist_ok=True)
    with pytest.raises(
        CompressError, match=r"has changed since it was listed; rerun|cannot be read: it ends within the"
    ):
        images[:]


def test_a_file_that_vanishes_meanwhile_is_one_line(photos: Path, store: Store) -> None:
    data = prepare(folder(photos, images="files"), store, 0)
    assert data.test.images[0].any()
    (photos / "test" / "cat" / "01.png").unlink()
    with pytest.raises(CompressError, match=r"01\.png cannot be read: No such file"):
        find_overlaps(data, store)


def photo(file: Path, width: int, height: int) -> None:
    """A smooth picture with noise, as a JPEG."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 90) + np.cos(y / 70), np.cos(x / 50), np.sin((x + y) / 80)], 2)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((waves * 40 + 128).astype(np.uint8)).save(file, quality=92)


def test_large_jpegs_are_halved_while_they_are_decoded_for_training_alone(photos: Path, store: Store) -> None:
    for part in ("train", "test"):
        for number, size in enumerate(((640, 480), (300, 517), (55, 56))):
            photo(photos / part / "cat" / f"big{number}.jpg", *(side + 8 * (part == "train") for side in size))
    photo(photos / "val" / "cat" / "one.jpg", 632, 480)
    photo(photos / "val" / "dog" / "one.jpg", 632, 488)
    pixels, files = both(folder(photos), store)
    differ = np.abs(pixels.train.images[:].astype(int) - files.train.images[:]).reshape(len(pixels.train), -1).max(1)
    assert (differ > 0).sum() == 2 and differ.max() < 12
    for split in ("validation", "test"):  # accuracy is measured on what a file is given
        assert np.array_equal(getattr(pixels, split).images, getattr(files, split).images[:]), split


def test_large_copies_in_train_and_test_are_found(photos: Path, store: Store) -> None:
    photo(photos / "train" / "cat" / "big.jpg", 640, 480)
    shutil.copy(photos / "train" / "cat" / "big.jpg", photos / "test" / "cat" / "copy.jpg")
    for name in ("cat", "dog"):
        photo(photos / "val" / name / "one.jpg", 632, 480 + len(name) * (name == "dog"))
    for data in both(folder(photos), store):
        (overlap,) = find_overlaps(data, store)
        assert (overlap.split, overlap.other, overlap.images) == ("test", "train", 1)


@pytest.mark.parametrize("images", ["pixels", "files"])
def test_huge_photos_are_read_or_refused_but_never_skipped(
    photos: Path, store: Store, images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo(photos / "test" / "cat" / "huge.jpg", 640, 480)
    monkeypatch.setattr("compress.data.image_io.HUGE", 300_000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)  # PIL refuses twice as many
    settings = folder(photos, images=images, broken="skip", max_pixels=307_199)
    with pytest.raises(
        CompressError, match=r"huge\.jpg \(640 x 480 pixels are more than 307,199\); raise `max_pixels`"
    ):
        prepare(settings, store, 0)
    data = prepare(settings.model_copy(update={"max_pixels": 307_200}), store, 0)
    assert len(data.test) == 7 and data.skipped == 0 and Image.MAX_IMAGE_PIXELS == 100_000
    with pytest.raises(
        CompressError, match=r"huge\.jpg \(Image size \(307200 pixels\) exceeds limit of 200000 pixels\)"
    ):
        prepare(settings.model_copy(update={"max_pixels": 100_000}), Store(store.root / "other"), 0)


@pytest.mark.slow
def test_a_photo_of_a_hundred_megapixels(photos: Path, store: Store) -> None:
    photo(photos / "test" / "cat" / "huge.jpg", 12_000, 9_000)
    assert os.path.getsize(photos / "test" / "cat" / "huge.jpg") > 10**6  # noqa: PTH202
    pixels, files = both(folder(photos, broken="skip"), store)
    assert pixels.skipped == files.skipped == 0 and len(files.test) == 7
    assert_same(pixels, files)


def test_a_listing_of_another_length(photos: Path, store: Store) -> None:
    data = prepare(folder(photos, images="files"), store, 0)
    assert data.originals
    missing = FileImages(data.originals, places("validation", np.arange(1)))
    with pytest.raises(CompressError, match="has changed since its images were prepared"):
        missing[0]
    assert Originals(data.originals.settings, data.originals.folder).name([0, 0]).endswith("train/cat/00.png")
