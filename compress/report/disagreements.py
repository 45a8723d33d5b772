"""Test images on which the teacher and the last student predict different classes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from compress.report import formats as f
from compress.results import Disagreement, Disagreements, Prediction

_PICTURE = re.compile(r"data:image/(?:png|webp);base64,[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True)
class PredictionView:
    """A model's prediction, "dog 97.0%", and whether it is correct."""

    model: str
    label: str
    correct: bool


@dataclass(frozen=True)
class ExampleView:
    """One image: its data URI, None where it is not a picture; its row in the test split, its label."""

    picture: str | None
    image: int
    label: str
    predictions: tuple[PredictionView, PredictionView]


@dataclass(frozen=True)
class DisagreementsView:
    """The images that are shown, of how many, and by which rule they were chosen."""

    summary: str
    rule: str
    examples: tuple[ExampleView, ...]


def disagreements_view(record: Disagreements) -> DisagreementsView:
    """Prepare the images for the page.

    Pictures other than PNG or WebP in base64 are left out: they could be documents of their own.
    """
    teacher, student = f.plain(record.teacher), f.plain(record.student)
    summary = f"{len(record.examples)} of the {record.images} test images (of {record.of}) on which"
    summary += f" {teacher} and {student} answer differently"
    examples = tuple(_example(example, teacher, student) for example in record.examples)
    return DisagreementsView(summary, f.plain(record.rule), examples)


def _example(example: Disagreement, teacher: str, student: str) -> ExampleView:
    def view(model: str, prediction: Prediction) -> PredictionView:
        label = f"{f.plain(prediction.name)} {f.percent(prediction.probability)}"
        return PredictionView(model, label, prediction.name == example.label)

    picture = example.thumbnail if _PICTURE.fullmatch(example.thumbnail) else None
    predictions = view(teacher, example.teacher), view(student, example.student)
    return ExampleView(picture, example.image, f.plain(example.label), predictions)
