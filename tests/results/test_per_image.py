"""Bits of correct predictions and labels of single images, as results.json has them."""

from __future__ import annotations

import numpy as np
import pytest

from compress.measurement.accuracy import bits
from compress.results.per_image import class_bits, correct_bits, encode_labels, paired_counts


@pytest.mark.parametrize("n", [1, 7, 8, 9, 1000])
@pytest.mark.parametrize("classes", [1, 2, 10, 16, 17, 1000])
def test_counts_are_those_of_the_arrays(n: int, classes: int) -> None:
    rng = np.random.default_rng([n, classes])
    before, after, labels = rng.random(n) < 0.8, rng.random(n) < 0.7, rng.integers(0, classes, n)
    encoded = encode_labels(labels.tolist(), classes)
    assert len(encoded) == n * len(f"{classes - 1:x}")
    by_class = class_bits(encoded, classes, n)
    assert by_class is not None and len(by_class) == classes
    for label, among in enumerate(by_class):
        own = labels == label
        expected = int((before & ~after & own).sum()), int((~before & after & own).sum())
        assert paired_counts(bits(before), bits(after), n, among) == expected
        assert among.bit_count() == own.sum()
    assert paired_counts(bits(before), bits(after), n) == ((before & ~after).sum(), (~before & after).sum())


def test_missing_and_short_bits_tell_nothing() -> None:
    assert correct_bits(None, 8) is None and correct_bits("", 8) is None and correct_bits("f", 8) is None
    assert paired_counts("ff", None, 8) is None and paired_counts(None, "ff", 8) is None


@pytest.mark.parametrize("labels", ["", "012", "01234", "0129"])
def test_labels_of_other_images_or_classes_are_none(labels: str) -> None:
    assert class_bits(labels, 4, 4) is None
    assert class_bits("0123", 4, 4) == [8, 4, 2, 1]
