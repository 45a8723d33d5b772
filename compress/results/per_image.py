"""Figures of single test images in `results.json`: bits of correct predictions, and labels, both in hexadecimal."""

from __future__ import annotations

from collections.abc import Sequence


def correct_bits(right: str | None, n: int) -> int | None:
    """Return `right` of an accuracy as one integer, the first of `n` images in its highest bit; None without it."""
    if not right or 4 * len(right) < n:
        return None
    return int(right, 16) >> (4 * len(right) - n)


def paired_counts(before: str | None, after: str | None, n: int, among: int = -1) -> tuple[int, int] | None:
    """Count the images that only the first of two predicts correctly, and only the second; None without their bits.

    Args:
        before: `right` of the first accuracy.
        after: `right` of the second accuracy, of the same images.
        n: Images of the split.
        among: Bits of the images to count, as of `class_bits`; by default all.
    """
    first, second = correct_bits(before, n), correct_bits(after, n)
    if first is None or second is None:
        return None
    return (first & ~second & among).bit_count(), (second & ~first & among).bit_count()


def encode_labels(labels: Sequence[int], classes: int) -> str:
    """Encode the labels of images with as many hexadecimal digits each as the last class takes."""
    width = _digits(classes)
    return "".join(f"{int(label):0{width}x}" for label in labels)


def class_bits(labels: str, classes: int, n: int) -> list[int] | None:
    """Return the images of each class as the bits of an integer, from encoded labels; the first image is the highest.

    None where these are not the labels of `n` images of so many classes.
    """
    width = _digits(classes)
    found = [int(labels[start : start + width], 16) for start in range(0, len(labels), width)]
    if len(labels) != width * n or max(found, default=0) >= classes:
        return None
    rows, spare = [bytearray(-(-len(found) // 8)) for _ in range(classes)], -len(found) % 8
    for image, label in enumerate(found):
        rows[label][image // 8] |= 0x80 >> image % 8
    return [int.from_bytes(row) >> spare for row in rows]


def _digits(classes: int) -> int:
    return max(1, len(f"{classes - 1:x}"))
