from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.data.folder import FolderData
from compress.data.source import Part, Raw
from compress.data.splits import split_parts
from compress.recipe.data import DataSection
from compress.utils.errors import UsageError

NAMES = ("a", "b", "c")


def source(counts: tuple[int, int, int], unlabeled: int = 0, validation: int = 0) -> Raw:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(3), counts))
    parts = {"unlabeled": Part(blank(unlabeled))} if unlabeled else {}
    if validation:
        parts["validation"] = Part(blank(validation), np.arange(validation) % 3)
    return Raw(NAMES, Part(blank(sum(counts)), labels), Part(blank(6), np.arange(6) % 3), **parts)


def blank(count: int) -> np.ndarray:
    return np.zeros((count, 3, 2, 2), np.uint8)


def train_rows(raw: Raw, shared, split: str) -> np.ndarray:
    return np.concatenate([rows for part, rows in shared[split] if part is raw.train] or [np.empty(0, int)])


@settings(max_examples=60, derandomize=True)
@given(
    st.tuples(*[st.integers(4, 40)] * 3),
    st.floats(0.01, 0.5),
    st.one_of(st.none(), st.integers(3, 60)),
    st.integers(0, 2**31 - 1),
)
def test_every_train_image_goes_to_one_split(counts, share, labeled, seed):
    raw = source(counts, unlabeled=5)
    wanted = DataSection(source="any", validation=share, labeled=labeled)
    try:
        shared = split_parts(raw, wanted, seed)
    except UsageError:
        assert labeled is not None and labeled * (1 + share) + 3 > sum(counts)
        return
    rows = [train_rows(raw, shared, split) for split in ("train", "unlabeled", "validation")]
    assert sorted(np.concatenate(rows)) == list(range(sum(counts)))
    assert shared["test"][0][0] is raw.test
    kept = np.bincount(raw.train.labels[rows[0]], minlength=3)
    if labeled:
        assert kept.sum() == labeled
        held = np.bincount(raw.train.labels[rows[2]], minlength=3)
        for name in range(3):  # balanced, unless a class has no more
            assert kept[name] >= min(labeled // 3, counts[name] - held[name])
    assert np.bincount(raw.train.labels[rows[2]], minlength=3).min() >= 1


def test_the_seed_decides_and_nothing_else():
    raw = source((30, 30, 30))
    first, same, other = (split_parts(raw, DataSection(source="any", labeled=10), seed) for seed in (1, 1, 2))
    assert np.array_equal(train_rows(raw, first, "train"), train_rows(raw, same, "train"))
    assert not np.array_equal(train_rows(raw, first, "train"), train_rows(raw, other, "train"))


def test_more_labels_add_to_fewer():
    raw = source((300, 300, 300))
    few, many = (
        set(train_rows(raw, split_parts(raw, DataSection(source="any", labeled=n), 0), "train")) for n in (20, 50)
    )
    assert few < many


def test_validation_is_stratified_and_a_share_of_the_kept_labels():
    raw = source((100, 200, 300))
    for labeled, expected in ((None, [10, 20, 30]), (300, [5, 10, 15])):
        shared = split_parts(raw, DataSection(source="any", validation=0.1, labeled=labeled), 0)
        assert np.bincount(raw.train.labels[train_rows(raw, shared, "validation")]).tolist() == expected


def test_a_validation_split_of_its_own_is_left_whole():
    raw = source((10, 10, 10), validation=9)
    shared = split_parts(raw, DataSection(source="any", validation=0.5), 0)
    assert shared["validation"][0][0] is raw.validation and len(train_rows(raw, shared, "train")) == 30


@pytest.mark.parametrize(
    ("counts", "wanted", "says"),
    [
        ((10, 10, 10), {"validation": 0}, "nothing may be selected on the test images"),
        ((10, 10, 10), {"validation": 1}, "leaves no train image of a"),
        ((10, 1, 10), {}, r"leaves no train image of b \(1\)"),
        ((10, 10, 10), {"labeled": 2}, "fewer than the 3 classes"),
        ((10, 10, 10), {"labeled": 30}, "is 30 plus 3 for validation, but the source has 30 labelled"),
        ((10, 10, 10), {"labeled": 31}, "the source has 30 labelled"),
    ],
)
def test_too_few_labels(counts, wanted, says):
    with pytest.raises(UsageError, match=says):
        split_parts(source(counts), DataSection(source="any", **wanted), 0)


def own(counts: tuple[int, int, int], repeated: int = 0) -> Raw:
    """Without a test part; the first `repeated` images of the first class are the same."""
    labels = np.repeat(np.arange(3), counts)
    images = np.random.default_rng(1).integers(0, 256, (sum(counts), 3, 4, 4), np.uint8)
    images[:repeated] = images[0]
    return Raw(NAMES, Part(images, labels), None)


def folder(**settings) -> FolderData:
    return FolderData(source="image-folder", path="x", **settings)


def test_a_test_split_is_cut_by_content_whatever_the_seed():
    raw = own((20, 10, 3))
    shared = [split_parts(raw, folder(test=0.2), seed) for seed in (0, 1)]
    tests = [train_rows(raw, one, "test") for one in shared]
    assert np.array_equal(*tests) and np.bincount(raw.train.labels[tests[0]]).tolist() == [4, 2, 1]
    rows = [train_rows(raw, shared[0], split) for split in ("train", "unlabeled", "validation", "test")]
    assert sorted(np.concatenate(rows)) == list(range(33))
    order = np.random.default_rng(5).permutation(33)
    moved = Raw(NAMES, Part(raw.train.images[order], raw.train.labels[order]), None)
    again = train_rows(moved, split_parts(moved, folder(test=0.2), 0), "test")
    assert sorted(order[again]) == sorted(tests[0])


@pytest.mark.parametrize("repeated", [2, 3, 8])
def test_copies_stay_on_one_side_of_the_test_split(repeated):
    raw = own((20, 10, 9), repeated)
    for share in (0.05, 0.1, 0.2, 0.4):
        test = set(train_rows(raw, split_parts(raw, folder(test=share), 0), "test"))
        assert {row in test for row in range(repeated)} in ({True}, {False})


def test_labels_are_kept_beside_a_cut_test_split():
    raw = own((20, 10, 9))
    shared = split_parts(raw, folder(test=0.2, labeled=6), 0)
    assert len(train_rows(raw, shared, "train")) == 6 and len(train_rows(raw, shared, "unlabeled")) == 39 - 8 - 6 - 3


@pytest.mark.parametrize(
    ("counts", "repeated", "says"),
    [
        (
            (9, 9, 1),
            0,
            r"data.test 0.2 leaves no train image of c \(1\); every class needs at least one each for train",
        ),
        ((9, 9, 2), 0, r"leaves no train image of c \(1\)"),
        ((9, 9, 9), 9, r"data.test 0.2 leaves no train image of a: too many of its 9 are the same"),
    ],
)
def test_too_few_images_for_a_test_split(counts, repeated, says):
    with pytest.raises(UsageError, match=says):
        split_parts(own(counts, repeated), folder(test=0.2), 0)
