from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from compress.data import sample
from compress.data.prepared import prepare
from compress.data.sample import SampleData
from compress.data.sources import data_key
from compress.recipe.data import Views
from compress.store.store import Store
from compress.utils.errors import CompressError, UsageError

SAMPLE = SampleData(source="cifar10-sample")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory):
    return prepare(SAMPLE, Store(tmp_path_factory.mktemp("store")), 0)


def hashes(images: np.ndarray) -> set[str]:
    return {hashlib.sha256(image.tobytes()).hexdigest() for image in images}


def test_counts_shapes_and_balance(data):
    sizes = {name: len(getattr(data, name)) for name in ("train", "unlabeled", "validation", "test")}
    assert sizes == {"train": 2000, "unlabeled": 6000, "validation": 500, "test": 2500}
    assert data.resolution == 32 and len(data.classes) == 10 and data.skipped == 0 and data.name == "cifar10-sample"
    assert data.train.images.dtype == np.uint8 and data.train.images.shape == (2000, 3, 32, 32)
    for split in (data.train, data.validation, data.test):
        assert split.labels.dtype == np.int64
        assert set(np.bincount(split.labels, minlength=10)) == {len(split) // 10}
    assert data.unlabeled.labels is None


def test_arrays_are_mapped_and_read_only(data):
    assert isinstance(data.train.images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        data.train.images[0] = 0


def test_no_test_image_is_in_any_other_split(data):
    seen = hashes(data.train.images) | hashes(data.unlabeled.images) | hashes(data.validation.images)
    assert not seen & hashes(data.test.images)


def test_second_call_takes_it_from_the_store(store, monkeypatch):
    first = prepare(SAMPLE, store, 0)
    monkeypatch.setattr(sample, "_sheet", lambda name: pytest.fail("decoded again"))
    again = prepare(SAMPLE, Store(store.root), 7)  # its splits are its own, so no seed matters
    assert again.key == first.key == data_key(SAMPLE, 3)


def test_labels_are_hidden_class_balanced(store, data):
    few = prepare(SAMPLE.model_copy(update={"labeled": 105}), store, 0)
    counts = np.bincount(few.train.labels, minlength=10)
    assert counts.sum() == 105 and set(counts) == {10, 11}
    assert len(few.unlabeled) == 6000 + 1895 and len(few.validation) == 500
    assert hashes(few.unlabeled.images) | hashes(few.train.images) == hashes(data.unlabeled.images) | hashes(
        data.train.images
    )
    assert data_key(SAMPLE.model_copy(update={"labeled": 105}), 1) != few.key


@pytest.mark.parametrize(("labeled", "says"), [(9, "fewer than the 10 classes"), (2001, "2,000 labelled train images")])
def test_impossible_label_counts(labeled, says):
    with pytest.raises(UsageError, match=says):
        data_key(SAMPLE.model_copy(update={"labeled": labeled}), 0)


def test_prompts_and_views_are_not_in_the_key():
    other = SAMPLE.model_copy(update={"templates": ["{}"], "views": Views(shift=0.5), "validation": 0.3})
    assert data_key(other, 0) == data_key(SAMPLE, 0)


@pytest.mark.parametrize("damage", ["sample.json", "train-2.webp"])
def test_a_damaged_sample_is_named(damage, tmp_path, monkeypatch):
    for file in sample.FOLDER.iterdir():
        if file.name != damage:
            (tmp_path / file.name).symlink_to(file)
    monkeypatch.setattr(sample, "FOLDER", tmp_path)
    with pytest.raises(CompressError, match=f"damaged at .*{damage}; reinstall"):
        data_key(SAMPLE, 0)


def test_keys_and_stored_images_need_no_torch():
    code = "import sys, compress.data.prepared; assert not {'torch', 'torchvision'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
