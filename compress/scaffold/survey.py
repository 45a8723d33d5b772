"""Survey the user's images: how many, how large, and what is wrong with them."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.data.image_io import HUGE, BrokenImage, open_image, pixel_limit, pixels_of
from compress.data.left_out import LeftOut
from compress.data.listing import ListedPart, list_images
from compress.data.parallel import in_blocks
from compress.data.splits import check_counts, counts_after_test
from compress.recipe.data import FileData
from compress.scaffold.detect import split_columns_left_out
from compress.utils.console import task
from compress.utils.errors import CompressError, printable

MAX_PIXELS = 2**32  # of an image that `init` writes `max_pixels` for; a larger one counts as unreadable
IMBALANCE = 5  # ratio of the largest class to the smallest above which balanced accuracy is compared
MAX_IMAGES = 5000  # that are opened; of more, evenly spaced ones
COMPARE_SIDE = 16  # pixels to which an image is shrunk before its colours are compared
GREY_TOLERANCE = 6  # of 255: largest distance between the channels of a grey image, after JPEG


@dataclass(frozen=True)
class Unreadable:
    """An image that cannot be read."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


@dataclass(frozen=True)
class Leaks:
    """Images of one split that are byte for byte in another."""

    test: int = 0  # test images that are also in another split, which `run` refuses
    validation: int = 0  # validation images that are also in train or unlabeled
    first: tuple[str, str] | None = None  # names of a test image and of its copy

    @property
    def total(self) -> int:
        return self.test + self.validation


@dataclass(frozen=True)
class Survey:
    """Statistics of the images of a source."""

    classes: tuple[str, ...]
    counts: dict[str, list[int]]  # readable images per class, by split; of `unlabeled` one number
    looked_at: int  # images that were opened, of `total`
    total: int
    short_sides: NDArray[np.int64]  # length of the shorter side of every readable image, in pixels
    grey: int  # readable images without colour
    broken: tuple[Unreadable, ...]
    large: int  # images with more pixels than `max_pixels` allows, whose sides are known from their headers
    max_pixels: int  # pixels of the largest image
    left_out: tuple[LeftOut, ...]  # what of the source is not read, by reason
    notes: tuple[str, ...]  # remarks on how the source is read
    copies: int  # images that are byte for byte another image
    contradictions: int  # images with a copy under another class
    leaks: Leaks
    sequential: bool  # whether images can be read from front to end only, not in any order


@dataclass(frozen=True)
class _Image:
    part: str
    label: int
    name: str
    digest: str
    size: tuple[int, int]
    grey: bool

    @property
    def pixels(self) -> int:
        return self.size[0] * self.size[1]


def survey_images(settings: FileData) -> Survey:
    """Open the images of a source, or `MAX_IMAGES` evenly spaced ones of more, and gather their statistics.

    Raises:
        CompressError: a file cannot be read, or no image can.
        UsageError: the source has the wrong layout, or too few images of a class.
    """
    listing = list_images(settings)
    total = sum(listed.count for listed in listing.parts.values())
    every = -(-total // MAX_IMAGES)
    images: list[_Image] = []
    broken: list[Unreadable] = []
    lost: Counter[tuple[str, int]] = Counter()
    with pixel_limit(MAX_PIXELS), task("inspecting images", total // every) as advance:
        for part, listed in listing.parts.items():
            for row, image in enumerate(in_blocks(listed.read(np.arange(0, listed.count, every)), _inspect, advance)):
                label = -1 if listed.labels is None else int(listed.labels[row * every])
                name = printable(listed.name(row * every))
                if isinstance(image, str):
                    broken.append(Unreadable(name, printable(image)))
                    lost[part, label] += 1
                else:
                    images.append(_Image(part, label, name, *image))
    if not images:
        reason = f"cannot read any image, e.g. {broken[0]}" if broken else "no images found"
        raise CompressError(f"{listing.where}: {reason}")
    counts = {part: _counts(part, listed, len(listing.classes), lost) for part, listed in listing.parts.items()}
    _check_counts(settings, listing.classes, counts)
    groups = _copies(images)
    return Survey(
        classes=listing.classes,
        counts=counts,
        looked_at=len(images) + len(broken),
        total=total,
        short_sides=np.array([min(image.size) for image in images]),
        grey=sum(image.grey for image in images),
        broken=tuple(broken),
        large=sum(image.pixels > settings.max_pixels for image in images),
        max_pixels=max(image.pixels for image in images),
        left_out=listing.left_out,
        notes=(*listing.notes, *split_columns_left_out(settings)),
        copies=sum(len(group) - 1 for group in groups),
        contradictions=sum(len(group) for group in groups if len({image.label for image in group} - {-1}) > 1),
        leaks=_leaks(groups),
        sequential=listing.sequential is not None,
    )


def imbalance(survey: Survey) -> float | None:
    """Return the ratio of the largest class to the smallest among the train images; None where it is no more than 5."""
    most, least = max(survey.counts["train"]), min(survey.counts["train"])
    return most / max(least, 1) if most > IMBALANCE * least else None


def _inspect(image: Path | bytes) -> tuple[str, tuple[int, int], bool] | str:
    """Return an image's digest, its size and whether it is grey; or why it cannot be read.

    An image of more than `HUGE` pixels is decoded at a fraction of its size if it is a JPEG; of others only the header
    is read, as they would take gigabytes.
    """
    try:
        with open_image(image, MAX_PIXELS) as decoded:
            size = decoded.size
            huge = size[0] * size[1] > HUGE
            if huge:
                decoded.draft("RGB", (COMPARE_SIDE, COMPARE_SIDE))
            whole = huge and decoded.size == size
            pixels = None if whole else pixels_of(decoded, COMPARE_SIDE).astype(int)
    except BrokenImage as error:
        return str(error)
    content = image if isinstance(image, bytes) else image.read_bytes()
    grey = pixels is not None and int((pixels.max(0) - pixels.min(0)).max()) <= GREY_TOLERANCE
    return hashlib.sha256(content).hexdigest(), size, grey


def _counts(part: str, listed: ListedPart, classes: int, lost: Counter[tuple[str, int]]) -> list[int]:
    """Count the images of each class without those that were found unreadable."""
    if listed.labels is None:
        return [listed.count - lost[part, -1]]
    per_class = np.bincount(listed.labels, minlength=classes)
    return [int(count) - lost[part, label] for label, count in enumerate(per_class)]


def _check_counts(settings: FileData, classes: tuple[str, ...], counts: dict[str, list[int]]) -> None:
    train = counts["train"]
    if "test" not in counts and settings.test:
        train = list(counts_after_test(train, classes, settings.test))
    check_counts(train, classes, settings, cut="validation" not in counts)


def _copies(images: list[_Image]) -> list[list[_Image]]:
    """Return the groups of images that are byte for byte the same."""
    by_digest: dict[str, list[_Image]] = {}
    for image in images:
        by_digest.setdefault(image.digest, []).append(image)
    return [group for group in by_digest.values() if len(group) > 1]


def _leaks(groups: list[list[_Image]]) -> Leaks:
    pairs: dict[str, list[tuple[str, str]]] = {"test": [], "validation": []}
    for group in groups:
        for image in group:
            others = [other.name for other in group if other.part not in (image.part, "test")]
            if image.part in pairs and others:
                pairs[image.part].append((image.name, others[0]))
    return Leaks(len(pairs["test"]), len(pairs["validation"]), next(iter(pairs["test"]), None))
