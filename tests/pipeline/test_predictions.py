"""Predictions on the test images, on logits that are small enough to be worked out by hand."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from compress.data.prepared import ImageData, Split
from compress.pipeline.predictions import Predictions, bits, class_changes, digest_of, disagreements, thumbnail


def predictions(labels: Sequence[int], classes: str = "abc", **logits: Sequence[Sequence[float]]) -> Predictions:
    images = np.arange(len(labels) * 3 * 4 * 6, dtype=np.uint8).reshape(-1, 3, 4, 6)
    test = Split(images, np.array(labels))
    data = ImageData("tiny", tuple(classes), 4, test, test, test, test, "", 0)
    return Predictions(data, {name: np.array(rows, np.float32) for name, rows in logits.items()})


def logits(*classes: int) -> list[list[float]]:
    return [[float(own == k) for k in range(3)] for own in classes]


def test_classes_and_moves() -> None:
    found = predictions([0, 0, 0, 1, 1, 2], t=logits(0, 0, 1, 1, 1, 0), s=logits(1, 1, 0, 1, 1, 1))
    assert found.paired("t")["s"] == (2, 1, 6)
    (change,) = class_changes(found, "t")
    (row,) = change.classes  # of class c the prediction moved, but neither is right
    assert (row.name, row.images, row.reference_correct, row.variant_correct) == ("a", 3, 2, 1)
    assert (row.only_reference, row.only_variant) == (2, 1)
    assert row.difference == pytest.approx(1 / 3) and row.difference_ci95[0] < 0 < row.difference_ci95[1]
    assert [tuple(move.model_dump().values()) for move in change.moves] == [
        ("a", "a", "b", 2),
        ("a", "b", "a", 1),
        ("c", "a", "b", 1),
    ]
    assert (change.classes_left_out, change.moves_left_out) == (0, 0)


def test_the_same_predictions_have_no_changes() -> None:
    found = predictions([0, 1], t=logits(0, 1), s=logits(0, 1))
    (change,) = class_changes(found, "t")
    assert change.classes == change.moves == ()
    assert disagreements(found, "t", "s").examples == ()


def test_one_class() -> None:
    found = predictions([0, 0], "a", t=[[1.0], [2.0]], s=[[0.0], [0.0]])
    assert class_changes(found, "t")[0].classes == () and disagreements(found, "t", "s").images == 0


def test_the_most_certain_images_of_the_teacher_come_first_and_at_most_a_dozen() -> None:
    margins = [2.0, 5.0, 1.0, *np.linspace(0.1, 0.9, 17)]
    found = predictions([0] * 20, t=[[margin, 0.0, 0.0] for margin in margins], s=logits(*[1] * 20))
    record = disagreements(found, "t", "s")
    assert (record.images, record.of, len(record.examples)) == (20, 20, 12)
    assert [example.image for example in record.examples][:4] == [1, 0, 2, 19]
    first = record.examples[0]
    assert first.label == first.teacher.name == "a" and first.student.name == "b"
    assert first.teacher.probability == pytest.approx(np.exp(5) / (np.exp(5) + 2))
    assert "the 12 of them that t is most certain of" in record.rule


@pytest.mark.parametrize(("height", "width", "shown"), [(32, 32, (32, 32)), (300, 200, (64, 96)), (4, 400, (96, 1))])
def test_a_thumbnail_is_a_small_picture(height: int, width: int, shown: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, height, width), np.uint8)
    kind, _, data = thumbnail(pixels).partition(",")
    assert kind == "data:image/webp;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == shown


def test_bits_follow_the_order_of_the_images() -> None:
    assert bits(np.array([1, 0, 0, 0, 0, 0, 0, 1, 1], bool)) == "8180"


def test_the_digest_is_that_of_images_and_labels() -> None:
    images, labels = np.zeros((5000, 3, 2, 2), np.uint8), np.zeros(5000, np.int64)
    first = digest_of(Split(images, labels))
    assert digest_of(Split(images.copy(), labels.copy())) == first
    other, changed = images.copy(), labels.copy()
    other[-1, 0, 0, 0] = 1
    changed[1] = 1
    assert len({first, digest_of(Split(other, labels)), digest_of(Split(images, changed))}) == 3
    assert digest_of(Split(images[:-1], labels[:-1])) != first
