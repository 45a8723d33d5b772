"""Out-of-distribution detection: how well networks and files tell test images from images of none of the classes."""

from __future__ import annotations

from pydantic import Field

from compress.results.base import Count, Fraction, Interval, Record
from compress.results.inference import Precision, Runtime
from compress.results.left_out import LeftOutRecord


class Auroc(Record):
    """How well a score tells test images from OOD images."""

    auroc: Fraction = Field(description="Probability that a test image has a higher score than an OOD image")
    ci95: Interval = Field(description="Newcombe's 95% score interval of auroc (method 5, 2006)")


class OodFile(Record):
    """A network, or a file in its own runtime."""

    variant: str = Field(description="Id of the variant")
    runtime: Runtime
    precision: Precision | None = Field(None, description="Precision of the file; null for the network in PyTorch")
    softmax: Auroc = Field(description="By the maximum softmax probability")
    energy: Auroc = Field(description="By the negative free energy, log-sum-exp of the logits")


class AurocLoss(Record):
    """AUROC that is lost against a reference, on the same images."""

    difference: float = Field(description="AUROC of the reference minus that of the variant")
    ci95: Interval = Field(description="95% interval of difference by DeLong's variance, not corrected")
    p_adjusted: Fraction = Field(
        description="p-value of no loss where there is one, else 1; Holm's correction for both scores of all networks "
        "and files that are compared with the reference"
    )
    worse: bool = Field(description="Shown: p_adjusted is at most 0.05, on at least 30 images of either kind")


class OodChange(Record):
    """A network or file against what stands for a reference."""

    reference: str = Field(description="Id of the reference")
    reference_runtime: Runtime = Field(description="Runtime of what stands for the reference")
    variant: str = Field(description="Id of the variant")
    runtime: Runtime
    precision: Precision | None = Field(None, description="Precision of the file; null for the network in PyTorch")
    softmax: AurocLoss = Field(description="By the maximum softmax probability")
    energy: AurocLoss = Field(description="By the negative free energy")


class OodDetection(Record):
    """Test images against the images of `measure.ood`, both at the side of the data's stored images."""

    images: Count = Field(description="OOD images")
    test_images: Count = Field(description="Test images")
    left_out: Count = Field(description="Files in the folder that are no images, or cannot be decoded")
    left_out_by_reason: tuple[LeftOutRecord, ...] = Field((), description="What was left out of the folder, by reason")
    files: tuple[OodFile, ...] = Field(description="Networks and files")
    changes: tuple[OodChange, ...] = Field(description="Against every reference")
