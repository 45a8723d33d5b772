"""Test images on which the teacher and the last student answer differently."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compress.report import formats as f
from compress.report.formats import field

_PICTURE = re.compile(r"data:image/(?:png|webp);base64,[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True)
class Said:
    """What one model answered: "dog 97.0%", and whether it is right."""

    who: str
    words: str
    right: bool


@dataclass(frozen=True)
class Example:
    """One image: a data URI or None where there is none that is a picture, its row in the test split, its label."""

    picture: str | None
    image: str
    label: str
    answers: tuple[Said, ...]


@dataclass(frozen=True)
class Disagreements:
    """The images that are shown, and what they were chosen of and by."""

    summary: str
    rule: str
    examples: tuple[Example, ...]


def disagreements(results: Mapping[str, Any]) -> Disagreements | None:
    """What `results.json` holds of them; None where it holds nothing.

    A picture that is anything but PNG or WebP in base64 is not shown: it could be a document of its own.
    """
    record = results.get("disagreements")
    if not record:
        return None
    shown = record.get("examples") or []
    teacher, student = (f.plain(record.get(who)) for who in ("teacher", "student"))
    summary = f"{len(shown)} of the {f.text(record.get('images'))} test images (of {f.text(record.get('of'))}) on which"
    summary += f" {teacher} and {student} answer differently"
    examples = tuple(_example(row, {"teacher": teacher, "student": student}) for row in shown)
    return Disagreements(summary, f.plain(record.get("rule") or "by a rule that was not recorded"), examples)


def _example(row: Mapping[str, Any], names: Mapping[str, str]) -> Example:
    picture, label = row.get("thumbnail"), row.get("label")
    answers = tuple(
        Said(
            name,
            f"{f.text(field(row, who, 'class'))} {f.percent(field(row, who, 'probability'))}",
            field(row, who, "class") == label,
        )
        for who, name in names.items()
    )
    fits = isinstance(picture, str) and _PICTURE.fullmatch(picture)
    return Example(picture if fits else None, f.text(row.get("image")), f.text(label), answers)
