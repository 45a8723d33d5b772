"""Images that two splits share: what is learnt from may not be what accuracy is measured on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from compress.data.prepared import BLOCK, ImageData
from compress.data.source import Pixels, StoreLike
from compress.utils.console import task
from compress.utils.errors import UsageError
from compress.utils.hashing import key_of
from compress.utils.messages import clean

VERSION = 1  # of what is looked for in the same data
PAIRS = (
    ("test", "train"),
    ("test", "unlabeled"),
    ("test", "validation"),
    ("validation", "train"),
    ("validation", "unlabeled"),
)
ALLOW = "overlap"

Record = dict[str, Any]


def overlaps(data: ImageData, store: StoreLike) -> list[Record]:
    """Which splits share images, pixel by pixel: found once for the same data, and kept in the store.

    Returns:
        `{split, other, images, first}` of each pair of splits that shares any: how many images of `split` are in
        `other` too, and the row numbers of the first one in both.
    """
    key = key_of(kind="overlap", version=VERSION, data=data.key)
    folder, _ = store.get(key, "the look for images in two splits", lambda work: _write(data, work))
    return json.loads((folder / "overlap.json").read_text())  # type: ignore[no-any-return]


def refuse_in_test(found: list[Record], classes: tuple[str, ...], data: ImageData) -> None:
    """Refuse test images that are learnt from, or that something is chosen on.

    Raises:
        UsageError: there are some; the line says how many, which, and what to do.
    """
    for record in found:
        if record["split"] == "test":
            row, other = record["first"]
            assert data.test.labels is not None
            name = clean(classes[int(data.test.labels[row])])
            raise UsageError(
                f"data: {_said(record, len(data.test))}, so accuracy on it is worthless; the first is image {row} of "
                f"test ({name}) and image {other} of {record['other']}, counted from 0 in the order of the files; "
                "remove them, or say `allow: [overlap]` at the top of the recipe"
            )


def remarks(found: list[Record], data: ImageData) -> list[str]:
    """What a reader must know of overlaps that are no reason to stop, one sentence each."""
    meaning = {
        "test": "the accuracy there is too high, by how much is not known",
        "validation": "what was chosen on validation was partly chosen on what was learnt",
    }
    return [f"{_said(r, len(getattr(data, r['split'])))}: {meaning[r['split']]}." for r in found]


def _said(record: Record, of: int) -> str:
    verb = "is" if record["images"] == 1 else "are"
    return f"{record['images']:,} of the {of:,} {record['split']} images {verb} in {record['other']} too"


def _write(data: ImageData, work: Path) -> None:
    (work / "overlap.json").write_text(json.dumps(list(_shared(data)), indent=1))


def _shared(data: ImageData) -> Iterator[Record]:
    names = list(dict.fromkeys(name for pair in PAIRS for name in pair))
    with task("images in two splits", sum(len(getattr(data, name)) for name in names)) as advance:
        digests = {name: list(_digests(getattr(data, name).images, advance)) for name in names}
    for split, other in PAIRS:
        there = {digest: row for row, digest in reversed(list(enumerate(digests[other])))}
        rows = [row for row, digest in enumerate(digests[split]) if digest in there]
        if rows:
            first = [rows[0], there[digests[split][rows[0]]]]
            yield {"split": split, "other": other, "images": len(rows), "first": first}


def _digests(images: Pixels, advance: Any) -> Iterator[bytes]:
    for start in range(0, len(images), BLOCK):
        block = np.ascontiguousarray(images[start : start + BLOCK])
        for pixels in block:
            yield hashlib.sha256(pixels).digest()
        advance(len(block))
