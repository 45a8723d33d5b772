"""A look at a person's images: how many, how large, and what is wrong with them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compress.data.decoding import in_blocks
from compress.data.image_io import BrokenImage, open_image, pixels_of
from compress.data.listing import ListedPart, list_images
from compress.data.splits import check_counts, counts_after_test
from compress.recipe.data import FileData
from compress.utils.console import task
from compress.utils.errors import CompressError, printable

MOST = 5000  # images that are looked at
SIDE = 16  # at which colours are compared
NEAR = 6  # of 255: how far the channels of a grey image may lie apart, after JPEG


@dataclass(frozen=True)
class Survey:
    """What was seen.

    Attributes:
        counts: images of each class, by part; of `unlabeled` one number.
        looked: images that were opened, of `total`.
        short_sides: pixels of those that could be read.
        broken: those that could not be, each with the reason.
        copies: images whose bytes another one has, too.
        contradictions: images whose bytes another one has under another class.
        leaks: images outside train whose bytes a train image has, too.
    """

    classes: tuple[str, ...]
    counts: dict[str, list[int]]
    looked: int
    total: int
    short_sides: np.ndarray
    grey: int
    broken: tuple[str, ...]
    copies: int
    contradictions: int
    leaks: int


@dataclass(frozen=True)
class _Seen:
    part: str
    label: int
    digest: str
    size: tuple[int, int]
    grey: bool


def look(settings: FileData) -> Survey:
    """Look at the images of a source; of many, at some thousand that lie evenly among them.

    Raises:
        CompressError: something cannot be read, or no image can.
        UsageError: the source is not laid out as it should be, or has too few images of a class.
    """
    listing = list_images(settings)
    total = sum(listed.count for listed in listing.parts.values())
    every = -(-total // MOST)
    seen: list[_Seen] = []
    broken: list[str] = []
    lost: Counter[tuple[str, int]] = Counter()
    with task("looking at images", total // every) as advance:
        for part, listed in listing.parts.items():
            for row, image in enumerate(in_blocks(listed.items(every), _look, advance)):
                label = -1 if listed.labels is None else int(listed.labels[row * every])
                if isinstance(image, str):
                    broken.append(printable(f"{listed.name(row * every)} ({image})"))
                    lost[part, label] += 1
                else:
                    seen.append(_Seen(part, label, *image))
    if not seen:
        raise CompressError(
            f"{listing.where}: none of its images can be read: {broken[0] if broken else 'there is none'}"
        )
    counts = {part: _counts(part, listed, len(listing.classes), lost) for part, listed in listing.parts.items()}
    _check(settings, listing.classes, counts)
    copies, contradictions, leaks = _repeated(seen)
    short_sides = np.array([min(one.size) for one in seen])
    grey = sum(one.grey for one in seen)
    looked = len(seen) + len(broken)
    return Survey(
        listing.classes, counts, looked, total, short_sides, grey, tuple(broken), copies, contradictions, leaks
    )


def _look(image: Path | bytes) -> tuple[str, tuple[int, int], bool] | str:
    """Digest, size and whether it is grey, or why it is no image."""
    try:
        with open_image(image) as opened:
            size = opened.size
            pixels = pixels_of(opened, SIDE).astype(int)
    except BrokenImage as error:
        return str(error)
    content = image if isinstance(image, bytes) else image.read_bytes()
    grey = int((pixels.max(0) - pixels.min(0)).max()) <= NEAR
    return hashlib.sha256(content).hexdigest(), size, grey


def _counts(part: str, listed: ListedPart, classes: int, lost: Counter[tuple[str, int]]) -> list[int]:
    """Images that can be read, as far as was looked."""
    if listed.labels is None:
        return [listed.count - lost[part, -1]]
    there = np.bincount(listed.labels, minlength=classes)
    return [int(count) - lost[part, label] for label, count in enumerate(there)]


def _check(settings: FileData, classes: tuple[str, ...], counts: dict[str, list[int]]) -> None:
    left = counts["train"]
    if "test" not in counts and settings.test:
        left = list(counts_after_test(left, classes, settings.test))
    check_counts(left, classes, settings, cut="validation" not in counts)


def _repeated(seen: list[_Seen]) -> tuple[int, int, int]:
    """How many images are copies, are under two classes, or are of train and of another part."""
    groups: dict[str, list[_Seen]] = {}
    for one in seen:
        groups.setdefault(one.digest, []).append(one)
    many = [group for group in groups.values() if len(group) > 1]

    def count(wrong: Callable[[list[_Seen]], int]) -> int:
        return sum(wrong(group) for group in many)

    copies = count(lambda group: len(group) - 1)
    contradictions = count(lambda group: len(group) if len({one.label for one in group} - {-1}) > 1 else 0)
    leaks = count(lambda group: sum(o.part in ("validation", "test") for o in group) if _in_train(group) else 0)
    return copies, contradictions, leaks


def _in_train(group: list[_Seen]) -> bool:
    return any(one.part == "train" for one in group)
