"""Predictions on the test images: changes by class, and images on which teacher and student disagree."""

from __future__ import annotations

from pydantic import Field

from compress.results.base import Count, Fraction, Interval, Record


class ClassChange(Record):
    """One class on which reference and variant differ."""

    name: str = Field(alias="class", description="Name of the class")
    images: Count = Field(description="Test images of the class")
    reference_correct: Count = Field(description="Images that the reference classifies correctly")
    variant_correct: Count = Field(description="Images that the variant classifies correctly")
    only_reference: Count = Field(description="Images that only the reference classifies correctly")
    only_variant: Count = Field(description="Images that only the variant classifies correctly")
    difference: float = Field(
        description="(only_reference - only_variant) / images; positive where the variant is less accurate"
    )
    difference_ci95: Interval = Field(description="Tango's paired 95% score interval of difference")
    p_adjusted: Fraction | None = Field(
        None,
        description="p-value of McNemar's exact test, after Holm's correction for the classes of this variant alone",
    )


class Move(Record):
    """A change from one predicted class to another."""

    label: str = Field(alias="class", description="True class")
    reference_said: str = Field(description="Class that the reference predicts")
    variant_said: str = Field(description="Class that the variant predicts")
    images: Count = Field(description="Test images with this change")


class ClassChanges(Record):
    """Changes by class from one variant to another on the test images."""

    reference: str = Field(description="Id of the variant before")
    variant: str = Field(description="Id of the variant after")
    classes: tuple[ClassChange, ...] = Field(description="Classes with a change, the largest first, at most 100")
    classes_left_out: Count = Field(description="Further classes with a change")
    moves: tuple[Move, ...] = Field(description="Most frequent changes of a prediction, at most 10")
    moves_left_out: Count = Field(description="Further kinds of change")


class Prediction(Record):
    """The predicted class of one image."""

    name: str = Field(alias="class", description="Most probable class")
    probability: Fraction = Field(description="Its softmax probability, of the stored logits")


class Disagreement(Record):
    """A test image on which teacher and student predict different classes."""

    image: Count = Field(description="Index in the test split")
    label: str = Field(description="True class")
    teacher: Prediction = Field(description="Prediction of the teacher")
    student: Prediction = Field(description="Prediction of the student")
    thumbnail: str = Field(description="The image as a data URI, at most 96 pixels wide and high")


class Disagreements(Record):
    """Test images on which the last distilled variant and its teacher disagree."""

    teacher: str = Field(description="Id of the teacher")
    student: str = Field(description="Id of the student")
    images: Count = Field(description="Test images on which they disagree")
    of: Count = Field(description="Test images")
    rule: str = Field(description="How the examples were chosen")
    examples: tuple[Disagreement, ...] = Field(description="At most 12 of them")
