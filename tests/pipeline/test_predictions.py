"""Test predictions, class changes and disagreements, on logits small enough to check by hand."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from compress.data.prepared import ImageData, Split
from compress.measurement.accuracy import bits
from compress.pipeline.predictions import Predictions, class_changes, digest_of, disagreements, thumbnail


def predictions(labels: Sequence[int], classes: str = "abc", **logits: Sequence[Sequence[float]]) -> Predictions:
    images = np.arange(len(labels) * 3 * 4 * 6, dtype=np.uint8).reshape(-1, 3, 4, 6)
    test = Split(images, np.array(labels))
    data = ImageData("tiny", tuple(classes), 4, test, test, test, test, "", 0)
    return Predictions(data, {name: np.array(rows, np.float32) for name, rows in logits.items()})


def one_hot(*classes: int) -> list[list[float]]:
    return [[float(name == k) for k in range(3)] for name in classes]


def test_class_changes_and_moved_predictions_are_counted() -> None:
    tested = predictions([0, 0, 0, 1, 1, 2], t=one_hot(0, 0, 1, 1, 1, 0), s=one_hot(1, 1, 0, 1, 1, 1))
    found = tested.difference("t", "s")
    assert (found.only_reference, found.only_variant, found.images) == (2, 1, 6)
    assert tested.chance == 0.5
    (change,) = class_changes(tested, "t")
    (row,) = change.classes  # the prediction for class c moved, but neither is correct
    assert (row.name, row.images, row.reference_correct, row.variant_correct) == ("a", 3, 2, 1)
    assert (row.only_reference, row.only_variant) == (2, 1)
    assert row.difference == pytest.approx(1 / 3) and row.difference_ci95[0] < 0 < row.difference_ci95[1]
    assert [tuple(move.model_dump().values()) for move in change.moves] == [
        ("a", "a", "b", 2),
        ("a", "b", "a", 1),
        ("c", "a", "b", 1),
    ]
    assert (change.classes_left_out, change.moves_left_out) == (0, 0)


def test_equal_predictions_have_no_changes() -> None:
    tested = predictions([0, 1], t=one_hot(0, 1), s=one_hot(0, 1))
    (change,) = class_changes(tested, "t")
    assert change.classes == change.moves == ()
    assert disagreements(tested, "t", "s").examples == ()


def test_single_class_has_no_changes() -> None:
    tested = predictions([0, 0], "a", t=[[1.0], [2.0]], s=[[0.0], [0.0]])
    assert class_changes(tested, "t")[0].classes == () and disagreements(tested, "t", "s").images == 0


def test_examples_are_the_twelve_images_the_teacher_is_most_certain_of() -> None:
    margins = [2.0, 5.0, 1.0, *np.linspace(0.1, 0.9, 17)]
    tested = predictions([0] * 20, t=[[margin, 0.0, 0.0] for margin in margins], s=one_hot(*[1] * 20))
    record = disagreements(tested, "t", "s")
    assert (record.images, record.of, len(record.examples)) == (20, 20, 12)
    assert [example.image for example in record.examples][:4] == [1, 0, 2, 19]
    first = record.examples[0]
    assert first.label == first.teacher.name == "a" and first.student.name == "b"
    assert first.teacher.probability == pytest.approx(np.exp(5) / (np.exp(5) + 2))
    assert "the 12 of them that t is most certain of" in record.rule


@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, (32, 32)), (300, 200, (64, 96)), (4, 400, (96, 1))])
def test_thumbnail_is_a_small_webp_image(height: int, width: int, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, height, width), np.uint8)
    kind, _, data = thumbnail(pixels).partition(",")
    assert kind == "data:image/webp;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == size


def test_bits_are_in_image_order() -> None:
    assert bits(np.array([1, 0, 0, 0, 0, 0, 0, 1, 1], bool)) == "8180"


def test_digest_depends_on_images_and_labels() -> None:
    images, labels = np.zeros((5000, 3, 2, 2), np.uint8), np.zeros(5000, np.int64)
    first = digest_of(Split(images, labels))
    assert digest_of(Split(images.copy(), labels.copy())) == first
    other, changed = images.copy(), labels.copy()
    other[-1, 0, 0, 0] = 1
    changed[1] = 1
    assert len({first, digest_of(Split(other, labels)), digest_of(Split(images, changed))}) == 3
    assert digest_of(Split(images[:-1], labels[:-1])) != first
