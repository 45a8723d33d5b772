"""Held-out classes are in no split but their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import photographs

from compress.data.held_out import HeldOut
from compress.data.prepared import planned_data, prepare
from compress.data.source import Part, Raw
from compress.data.sources import data_key
from compress.data.splits import HELD_OUT, split_parts
from compress.recipe import parse_recipe
from compress.recipe.data import DataSection, FileData
from compress.store.store import Store
from compress.utils.errors import UsageError

NAMES = ("a", "b", "c", "d")
STAGES = "stages: [{id: s, kind: train, student: test_resnet}]"


def section(**settings: object) -> DataSection:
    return DataSection(source="any", **settings)  # type: ignore[arg-type]


@pytest.fixture
def raw() -> Raw:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), 20))

    def numbered(count: int) -> np.ndarray:
        return np.arange(count).reshape(-1, 1, 1, 1) * np.ones((1, 3, 2, 2), int)

    test, unlabeled = Part(numbered(12), np.arange(12) % 4), Part(numbered(5))
    return Raw(NAMES, Part(numbered(80), labels), test, unlabeled=unlabeled)


def labels_of(raw: Raw, settings: DataSection, split: str) -> list[tuple[int, int]]:
    """The source's label of each image of a split, with the label that it gets."""
    ((part, rows),) = split_parts(raw, settings, 0)[split]
    own = next(each for each in (raw.train, raw.test) if each and each.images is part.images)
    assert own.labels is not None and part.labels is not None
    return list(zip(own.labels[rows].tolist(), part.labels[rows].tolist(), strict=True))


def test_held_out_classes_are_in_no_other_split(raw: Raw) -> None:
    settings = section(held_out=["d", "b"])
    for split in ("train", "validation", "test"):
        pairs = labels_of(raw, settings, split)
        assert set(pairs) == {(0, 0), (2, 1)}, "a and c are the classes 0 and 1"
    assert set(labels_of(raw, settings, HELD_OUT)) == {(3, 0), (1, 1)}, "in the order of the recipe"
    assert len(labels_of(raw, settings, HELD_OUT)) == 6
    assert HELD_OUT not in split_parts(raw, section(), 0)


def test_no_hidden_label_is_of_a_held_out_class(raw: Raw) -> None:
    shared = split_parts(raw, section(held_out=["b"], labeled=6), 0)
    (own, _), (hidden, rows) = shared["unlabeled"]
    assert own is raw.unlabeled, "of these nothing is known"
    assert raw.train.labels is not None
    assert hidden.images is raw.train.images and 1 not in raw.train.labels[rows] and len(rows)


@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        (["e"], "data.held_out: unknown class 'e'; classes: a, b, c, d"),
        (["b", "b"], "data.held_out names a class twice"),
        (["a", "b", "c"], "data.held_out leaves 1 of 4 classes; hold out fewer"),
    ],
)
def test_wrong_classes_are_refused(held_out: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        HeldOut.of(section(held_out=held_out), NAMES)


@pytest.mark.parametrize("named", ["caf\u00e9", "cafe\u0301"])
@pytest.mark.parametrize("stored", ["caf\u00e9", "cafe\u0301"])
def test_either_form_of_unicode_names_a_class(named: str, stored: str) -> None:
    own = HeldOut.of(section(held_out=[named], prompts={named: "coffee"}), ("a", "b", stored))
    assert own.held == (stored,) and own.kept == ("a", "b")
    assert section(prompts={named: "coffee"}).words(stored) == "coffee"
    with pytest.raises(UsageError, match="names a class twice"):
        HeldOut.of(section(held_out=["caf\u00e9", "cafe\u0301"]), ("a", "b", "c", stored))


def data_of(root: Path, more: str = "") -> FileData:
    recipe = parse_recipe(f"data: {{source: image-folder, path: {root}, resolution: 32{more}}}\n{STAGES}")
    assert isinstance(recipe.data, FileData)
    return recipe.data


@pytest.mark.parametrize("images", ["pixels", "files"])
def test_prepared_data_has_the_images_of_each_split(images: str, tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        photographs(tmp_path / "images" / part, 4, seed=len(part))
    whole = data_of(tmp_path / "images", f", images: {images}")
    held = data_of(tmp_path / "images", f", images: {images}, held_out: [down]")
    store = Store(tmp_path / "store")
    assert data_key(whole, 0) != data_key(held, 0)
    assert data_key(held, 0) == data_key(held, 0) and whole.model_dump().get("held_out") is None
    expected = planned_data(held, store, 0, data_key(held, 0))
    all_data, data = prepare(whole, store, 0), prepare(held, store, 0)
    assert data.classes == ("across", "both") and data.held_names == ("down",)
    assert data.held_out is not None and data.held_out.labels is not None
    assert data.held_out.labels.tolist() == [0] * 4
    assert all_data.held_out is None and all_data.held_names == ()
    assert np.array_equal(data.held_out.images[:], all_data.test.images[np.flatnonzero(all_data.test.labels == 2)])
    assert np.array_equal(data.test.images[:], all_data.test.images[np.flatnonzero(all_data.test.labels != 2)])
    for split in ("train", "validation", "test", "held_out"):
        assert len(getattr(data, split)) == len(getattr(expected, split)), split
    assert any("Held out: down" in note for note in data.notes)
