"""Robustness: accuracy of networks and files on corrupted test images, and losses against a reference."""

from __future__ import annotations

from pydantic import Field

from compress.results.base import Count, Fraction, Interval, Record
from compress.results.inference import Precision, Runtime


class CorruptedAccuracy(Record):
    """Accuracy under one corruption at one severity."""

    corruption: str = Field(description="Kind of corruption")
    severity: Count = Field(description="Severity, from 1 to 5")
    top1: Fraction = Field(description="Top-1 on the corrupted test images")
    ci95: Interval = Field(description="Wilson 95% score interval of top1")


class CorruptedFile(Record):
    """Accuracy of a network, or of a file in its own runtime, on corrupted images."""

    variant: str = Field(description="Id of the variant")
    runtime: Runtime
    precision: Precision | None = Field(None, description="Precision of the file; null for the network in PyTorch")
    clean: Fraction = Field(
        description="Top-1 on the images before they are corrupted: those that the store has, also for a network whose "
        "own preprocessing is for the original files"
    )
    accuracies: tuple[CorruptedAccuracy, ...] = Field(description="By corruption and severity")


class CorruptedLoss(Record):
    """Loss of a variant under one corruption at one severity."""

    corruption: str = Field(description="Kind of corruption")
    severity: Count = Field(description="Severity, from 1 to 5")
    difference: float = Field(description="Accuracy of the reference minus that of the variant, on the same images")
    ci95: Interval = Field(description="Tango's paired 95% score interval of difference, not corrected")


class CorruptionExcess(Record):
    """Loss of a variant under one corruption beyond its loss without."""

    corruption: str = Field(description="Kind of corruption")
    difference: float = Field(description="Accuracy lost against the reference, mean over the severities")
    beyond_clean: float = Field(description="The same less the accuracy lost on the images before they are corrupted")
    beyond_clean_ci95: Interval = Field(description="95% interval of beyond_clean, of the images, not corrected")
    p_adjusted: Fraction = Field(
        description="p-value of beyond_clean being 0 where it is above, else 1; Holm's correction for all corruptions "
        "of all networks and files"
    )
    worse: bool = Field(
        description="Shown to hurt the variant more than the reference, at 5% on p_adjusted, on 30 images or more"
    )


class CorruptionChange(Record):
    """A network or a file against the reference, on the same corrupted images."""

    reference: str = Field(description="Id of the reference")
    reference_runtime: Runtime = Field(description="Runtime of what stands for the reference")
    variant: str = Field(description="Id of the variant")
    runtime: Runtime
    precision: Precision | None = Field(None, description="Precision of the file; null for the network in PyTorch")
    clean_difference: float = Field(description="Accuracy lost on the images before they are corrupted")
    clean_difference_ci95: Interval = Field(description="Tango's paired 95% score interval of clean_difference")
    losses: tuple[CorruptedLoss, ...] = Field(description="By corruption and severity")
    excess: tuple[CorruptionExcess, ...] = Field(description="By corruption, the largest beyond_clean first")
    mean_corruption_error: float | None = Field(
        ge=0,
        description="Errors relative to the reference's, mean over the corruptions: 1 is as many (Hendrycks and "
        "Dietterich 2019); null where the reference makes none",
    )
    mean_corruption_error_ci95: Interval | None = Field(
        description="95% interval of mean_corruption_error, of the images"
    )


class Robustness(Record):
    """Accuracy on corrupted test images."""

    benchmark: str = Field(description="Where the parameters of the corruptions are from: ImageNet-C or CIFAR-10-C")
    images: Count = Field(description="Test images, each corrupted in all ways")
    files: tuple[CorruptedFile, ...] = Field(description="Accuracy of every network and file that counts")
    changes: tuple[CorruptionChange, ...] = Field(description="The same against every reference")
