"""Predictions beyond top-1: confidence, classes and top-5 of a network or file, and changes against a reference."""

from __future__ import annotations

from pydantic import Field

from compress.results.base import Count, Fraction, Hexadecimal, Interval, Record, absent
from compress.results.inference import Precision, Runtime


class ReliabilityBin(Record):
    """Test images of similar confidence."""

    images: Count = Field(description="Images of the bin")
    confidence: Fraction = Field(description="Their mean confidence")
    accuracy: Fraction = Field(description="Share of them whose predicted class is the label")


class Confidence(Record):
    """Confidence of predictions: the softmax probability of the predicted class."""

    nll: float = Field(ge=0, description="Mean negative log likelihood of the label, nats")
    brier: float = Field(
        ge=0, le=2, description="Mean sum over the classes of (probability - 1 or 0)^2, from 0 to 2 (Brier 1950)"
    )
    ece: Fraction = Field(
        description="Expected calibration error in at most 15 bins of equally many images, of which those of the same "
        "confidence stay in one bin; debiased (Kumar et al. 2019)"
    )
    ece_ci95: Interval = Field(
        description="95% bootstrap interval of ece; from 0 where perfect calibration is not rejected"
    )
    ece_plug_in: Fraction = Field(description="The same without debiasing: too high, the more so with few images")
    mean: Fraction = Field(description="Mean confidence")
    overconfidence: float = Field(description="Mean confidence minus top-1; negative where it is underconfident")
    overconfidence_ci95: Interval = Field(description="95% interval of overconfidence")
    bins: tuple[ReliabilityBin, ...] = Field(description="Reliability diagram, the least confident images first")


class ClassRecall(Record):
    """Accuracy on the test images of one class."""

    name: str = Field(alias="class", description="Name of the class")
    images: Count = Field(description="Test images of the class")
    recall: Fraction = Field(description="Share of them that are classified correctly")
    ci95: Interval = Field(description="Wilson 95% score interval of recall")


class Quality(Record):
    """Predictions of a network, or of a file in its own runtime, beyond top-1; on the whole test split."""

    confidence: Confidence = Field(description="How far confidence can be relied on")
    balanced: Fraction = Field(description="Balanced accuracy: mean recall of the classes that have test images")
    balanced_ci95: Interval = Field(description="95% interval of balanced, from Wilson's of the recalls")
    classes: tuple[ClassRecall, ...] = Field(description="Recall by class, the worst first, at most 20")
    classes_left_out: Count = Field(description="Further classes, whose recall is higher")
    top5: Fraction | None = absent("Share of images whose label is among the 5 most probable of 20 or more classes")
    top5_ci95: Interval | None = absent("Wilson 95% score interval of top5")
    top5_right: Hexadecimal | None = absent("One bit per image, as `right` of the accuracy, for the top 5")


class Thresholded(Record):
    """Predictions that a threshold on the confidence accepts."""

    threshold: Fraction = Field(description="Lowest confidence that is accepted")
    accepted: Fraction = Field(description="Share of the test images that are accepted")
    precision: Fraction | None = Field(description="Share of correct predictions among them; null without any")
    precision_ci95: Interval | None = Field(description="Wilson 95% score interval of precision")


class Shift(Record):
    """A score of a variant minus that of the reference, on the same test images."""

    difference: float = Field(description="Of the variant minus of the reference")
    ci95: Interval = Field(description="Its 95% interval, not corrected for several comparisons")
    worse: bool = Field(
        description="Shown to be worse at 5%, on at least 30 images, after Holm's correction for the three scores of "
        "all networks and files that are compared with the reference"
    )


class ClassLoss(Record):
    """A class that is shown to have lost accuracy."""

    name: str = Field(alias="class", description="Name of the class")
    images: Count = Field(description="Test images of the class")
    difference: float = Field(description="Recall of the reference minus that of the variant")
    ci95: Interval = Field(description="Tango's paired 95% score interval of difference, not corrected")
    p_adjusted: Fraction = Field(
        description="p-value of McNemar's exact test, after Holm's correction for the classes of all networks and "
        "files that are compared with the reference"
    )


class QualityChange(Record):
    """Predictions of a network or a file against those of the reference, on the same test images."""

    reference: str = Field(description="Id of the reference")
    reference_runtime: Runtime = Field(description="Runtime of what stands for the reference")
    variant: str = Field(description="Id of the variant")
    runtime: Runtime
    precision: Precision | None = Field(None, description="Precision of the file; null for the network in PyTorch")
    nll: Shift = Field(description="Change of NLL")
    brier: Shift = Field(description="Change of the Brier score")
    ece: Shift = Field(description="Change of the debiased ECE")
    mean_confidence: float = Field(description="Mean confidence of the variant minus that of the reference")
    mean_confidence_ci95: Interval = Field(description="95% interval of mean_confidence")
    reference_threshold: Thresholded = Field(description="The reference at `worth.threshold`")
    same_threshold: Thresholded = Field(description="The variant at the same threshold")
    fitted_threshold: Thresholded | None = Field(
        None,
        description="The variant at the lowest threshold that gives it the reference's precision on validation; null "
        "where none does, where either accepts fewer than 30 images of validation, or where an earlier version did "
        "not store their logits",
    )
    balanced_difference: float = Field(description="Balanced accuracy lost against the reference")
    balanced_difference_ci95: Interval = Field(description="95% interval of balanced_difference, from Tango's by class")
    lost: tuple[ClassLoss, ...] = Field(description="Classes that are shown to have lost, the most first, at most 20")
    lost_left_out: Count = Field(description="Further classes that are shown to have lost")
    gained: Count = Field(description="Classes that are shown to have gained")
