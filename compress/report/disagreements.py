"""Test images on which the teacher and the last student predict different classes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from compress.report import formats as f
from compress.results import Disagreement, Disagreements

_PICTURE = re.compile(r"data:image/(?:png|webp);base64,[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True)
class Example:
    """One image: its data URI (None where it is not a picture), and (model, prediction, is correct) of both models."""

    picture: str | None
    image: int
    label: str
    predictions: tuple[tuple[str, str, bool], ...]


@dataclass(frozen=True)
class DisagreementsSection:
    """Examples, out of how many images, and the rule by which they were chosen."""

    summary: str
    rule: str
    examples: tuple[Example, ...]


def disagreements_section(record: Disagreements) -> DisagreementsSection:
    """Prepare the images for the page.

    Pictures other than PNG or WebP in base64 are left out: they could be documents of their own.
    """
    summary = (
        f"{len(record.examples)} of the {record.images} test images (of {record.of}) on which {f.plain(record.teacher)}"
        f" and {f.plain(record.student)} predict different classes"
    )
    examples = tuple(_example(example, record) for example in record.examples)
    return DisagreementsSection(summary, f.plain(record.rule), examples)


def _example(example: Disagreement, record: Disagreements) -> Example:
    picture = example.thumbnail if _PICTURE.fullmatch(example.thumbnail) else None
    predictions = tuple(
        (f.plain(model), f"{f.plain(top.name)} {f.percent(top.probability)}", top.name == example.label)
        for model, top in ((record.teacher, example.teacher), (record.student, example.student))
    )
    return Example(picture, example.image, f.plain(example.label), predictions)
