"""Names of splits and classes: which names mean the same, and in which order classes are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from compress.utils.names import same_name

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("unlabeled", "unlabelled", "unsupervised"), "unlabeled"),
}
"""Part of each name that a split may have."""
MAX_DIGITS = 100  # of a numeric label


def order_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Sort class names, of folders and of labels alike: in numerical order if all are whole numbers, else as text.

    The names are returned in the form of `same_name`, each once, so that disks with other forms give the same classes.
    """
    words = set(map(same_name, names))
    if all(is_number(word) for word in words):
        return tuple(sorted(words, key=lambda word: (int(word), word)))
    return tuple(sorted(words))


def order_notes(classes: Sequence[str]) -> tuple[str, ...]:
    """Say how numbers are sorted, where text would be in another order."""
    if not all(map(is_number, classes)) or list(classes) == sorted(classes) or order_classes(classes) != tuple(classes):
        return ()
    first = ", ".join(sorted(classes)[:3])
    return (
        f"Classes are in numerical order, {', '.join(classes[:3])}, ...: a checkpoint trained in the order of text, as "
        f"torchvision's ImageFolder sorts folders ({first}, ...), needs its `classes`.",
    )


def is_number(text: str) -> bool:
    """Whether text is a whole number of at most `MAX_DIGITS` digits."""
    return text.isdecimal() and len(text) <= MAX_DIGITS
