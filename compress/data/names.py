"""Names of splits and classes: which names mean the same, and in which order classes are."""

from __future__ import annotations

import re
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
_SHORT = {"tr": "train", "ts": "test"}  # `imagesTr`
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_FILLER = "(?:(?:data)?sets?|data|(?:image|img|photo|picture|pic|file|sample)s?|split|folder|dir)?"
_JOINED = re.compile(f"{_FILLER}({'|'.join(SPLIT_WORDS)}){_FILLER}")
_LIKE_SPLIT = re.compile("(?:train|test|valid|unlabel)(?!er)|.*(?:train|test|valid)$")


def parts_in(name: str) -> set[str]:
    """Return the parts that a compound name such as `seg_train`, `TestImages`, `trainset` or `imagesTr` may mean."""
    words = [word.lower() for word in _WORD.findall(name)]
    joined = filter(None, map(_JOINED.fullmatch, words))
    return {SPLIT_WORDS[match[1]] for match in joined} | {_SHORT[word] for word in words[1:] if word in _SHORT}


def is_like_split(name: str) -> bool:
    """Whether a word in a name is a split, or starts or ends like one: `birdstrain`, but not `trainer` or `valley`."""
    return bool(parts_in(name)) or any(_LIKE_SPLIT.match(word.lower()) for word in _WORD.findall(name))


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
