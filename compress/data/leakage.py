"""Leakage: images that two splits share, so that accuracy is measured on images that were trained on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from compress.data.digests import pixel_digests
from compress.data.originals import FileImages
from compress.data.prepared import SPLITS, TRAINED, ImageData, Split
from compress.data.splits import HELD_OUT
from compress.store.store import Store
from compress.utils.console import task
from compress.utils.errors import UsageError
from compress.utils.hashing import key_of
from compress.utils.messages import one_line

VERSION = 1  # of the search; part of the store key
HELD_OUT_VERSION = 2  # that of data with held-out classes
PAIRS = (
    ("test", "train"),
    ("test", "unlabeled"),
    ("test", "validation"),
    ("validation", "train"),
    ("validation", "unlabeled"),
)
HELD_OUT_PAIRS = tuple((HELD_OUT, other) for other in ("train", "unlabeled", "validation"))
TESTED = {"test": "test", HELD_OUT: "held-out test"}  # splits that accuracy is measured on, and their names
ALLOW = "overlap"
MAX_DECODED = 20_000  # images of `images: files` that are decoded to be compared, which takes about a minute


@dataclass(frozen=True)
class Overlap:
    """Images that two splits share."""

    split: str  # name of a split
    other: str  # name of the split that has images of it, too
    images: int  # how many images of `split` are in `other`
    first: tuple[int, int]  # rows of the first shared image in `split` and in `other`


def find_overlaps(data: ImageData, store: Store) -> list[Overlap]:
    """Find the pairs of splits that share images; the result is kept in the store.

    Compared pixel by pixel; see `compares_pixels`.
    """
    version = HELD_OUT_VERSION if data.held_out else VERSION
    key = key_of(kind="overlap", version=version, data=data.key, **comparison_key(data))
    folder, _ = store.get(key, "the look for images in two splits", lambda target: _write(data, target))
    rows = json.loads((folder / "overlap.json").read_text())
    return [Overlap(**{**row, "first": tuple(row["first"])}) for row in rows]


def refuse_test_overlap(overlaps: Sequence[Overlap], data: ImageData) -> None:
    """Refuse test images that are also in a split used for training or selection; the `UsageError` says which."""
    for overlap in overlaps:
        if overlap.split in TESTED:
            row, other = overlap.first
            split: Split = getattr(data, overlap.split)
            assert split.labels is not None
            names = data.classes if overlap.split == "test" else data.held_names
            name, what = one_line(names[int(split.labels[row])]), TESTED[overlap.split]
            pair = f"image {row} of {what} ({name}) and image {other} of {overlap.other}, counted from 0"
            if data.originals:
                images = ((overlap.split, row), (overlap.other, other))
                first, second = (one_line(data.originals.name_in(*image)) for image in images)
                pair = f"{first} ({name}) and {second}"
            raise UsageError(
                f"data: {_describe(overlap, data)}, so accuracy on {what} is meaningless; the first is {pair}; remove "
                "them from one of the splits, or set `allow: [overlap]` at the top of the recipe"
            )


def overlap_remarks(overlaps: Sequence[Overlap], data: ImageData) -> list[str]:
    """Describe overlaps that are allowed, one sentence each."""
    meaning = {
        **dict.fromkeys(TESTED, "the accuracy there is too high by an unknown amount"),
        "validation": "selection on validation was partly on images that were trained on",
    }
    return [f"{_describe(overlap, data)}: {meaning[overlap.split]}." for overlap in overlaps]


def _describe(overlap: Overlap, data: ImageData) -> str:
    verb = "is" if overlap.images == 1 else "are"
    total = len(getattr(data, overlap.split))
    what = TESTED.get(overlap.split, overlap.split)
    return f"{overlap.images:,} of the {total:,} {what} images {verb} in {overlap.other} too"


def _write(data: ImageData, folder: Path) -> None:
    rows = [asdict(overlap) for overlap in _shared(data)]
    (folder / "overlap.json").write_text(json.dumps(rows, indent=1))


def _shared(data: ImageData) -> Iterator[Overlap]:
    pairs = (*PAIRS, *(HELD_OUT_PAIRS if data.held_out else ()))
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    with task("images in two splits", sum(len(getattr(data, name)) for name in names)) as advance:
        digests = {name: list(image_digests(data, name, advance)) for name in names}
    for split, other in pairs:
        there = {digest: row for row, digest in reversed(list(enumerate(digests[other])))}
        rows = [row for row, digest in enumerate(digests[split]) if digest in there]
        if rows:
            yield Overlap(split, other, len(rows), (rows[0], there[digests[split][rows[0]]]))


def compares_pixels(data: ImageData) -> bool:
    """Return whether images are compared by their pixels: with `images: files` only few are, as all are decoded."""
    return not _in_files(data) or sum(len(getattr(data, name)) for name in SPLITS) <= MAX_DECODED


def bytes_remark(data: ImageData) -> list[str]:
    """Say that the same picture in another file was not looked for, where that is so."""
    if compares_pixels(data):
        return []
    return [
        "Images in two splits were looked for by the bytes of their files: a copy that was saved anew is not found."
    ]


def comparison_key(data: ImageData) -> dict[str, str]:
    """Return the part of store keys that tells comparisons of pixels from those of bytes, which once were all."""
    return {"compared": "pixels"} if _in_files(data) and compares_pixels(data) else {}


def image_digests(data: ImageData, split: str, advance: Callable[..., None]) -> Iterator[bytes]:
    """Compute the SHA-256 of each image of a split: of its pixels, or of its file where only bytes are compared."""
    images = getattr(data, split).images
    if isinstance(images, FileImages):
        if compares_pixels(data):
            return pixel_digests(images.in_full(), advance)
        # A truncated image that accuracy is measured on must be found before anything is trained.
        return images.digests(advance, decoding=split not in TRAINED)
    return pixel_digests(images, advance)


def _in_files(data: ImageData) -> bool:
    return isinstance(data.train.images, FileImages)
