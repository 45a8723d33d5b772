"""The result of a run in figures, from which its first sentence is made."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from compress.results.base import (
    PAIRED_OR_BALANCED,
    Censored,
    Count,
    Fraction,
    Interval,
    Number,
    OpenInterval,
    Record,
    absent,
)
from compress.results.inference import Batch, Precision, Runtime
from compress.utils.metric_name import MetricName

Bound = Literal["at least", "at most"]
"""A doubling that is only known to be no smaller, or no larger."""


class HeadlineFile(Record):
    """The file that the sentence is about: of the granted files of the variant, the fastest."""

    runtime: Runtime
    path: str | None = Field(description="Path within the folder of the run; null for the network itself in PyTorch")
    precision: Precision
    bytes: Count = Field(description="Size of the file in bytes")
    top1: Fraction = Field(description="Top-1 of the file in its runtime")
    ci95: Interval = Field(description="Wilson 95% score interval of top1")
    batch: Batch | None = Field(None, description="Batch size of ms_per_image")
    ms_per_image: float | None = Field(None, description="Median latency of a batch divided by its images")


class Months(Record):
    """Doublings as months of growth; and of gap, where they are of training compute and the gap grows."""

    months_of_growth: float | None = Field(description="12 x doublings / log2(growth); null beyond the trend's data")
    growth_interval: Interval | None = Field(None, description="Its interval, by those of growth and doublings")
    months_of_gap: float | None = Field(
        description="12 x doublings / (log2(growth) - log2(hardware)); null for inference, which offsets none"
    )
    gap_interval: Interval | None = Field(None, description="Its interval, by those of both growths and of doublings")
    hold: str | None = Field(None, description="How often the same saving would be needed to hold the gap")
    reason: str | None = Field(None, description="Why months are null that the trend gives in other years")


class InferenceDoublings(Record):
    """k: doublings of inference compute at tested equal accuracy, and their months of growth."""

    macs: float | None = Field(description="k, doublings in MACs per image")
    bit_operations: float | None = Field(
        description="Doublings in bit operations per image: those that the file executes; null where unknown"
    )
    months: Months = Field(description="Months of k")
    latency: float | None = Field(None, description="Doublings in measured time: best granted file against best")
    latency_ci95: Interval | None = Field(None, description="Its 95% interval")
    latency_batch: Batch | None = Field(None, description="Batch size of both")
    reference_runtime: str | None = Field(None, description="Runtime of the reference's file")
    reference_precision: str | None = Field(None, description="Precision of the reference's file")


class TrainingDoublings(Record):
    """t: doublings of training compute, earlier training included, negative where the variant took more."""

    against: str = Field(description="Variant whose training compute is compared")
    doublings: float | None = Field(description="t = log2(training compute of that variant / of this one)")
    bound: Bound | None = Field(None, description="Whether t is only a bound")
    censored: Censored | None = absent("Which of the two curves never reaches the accuracy: why t is a bound")
    ci95: OpenInterval | None = Field(None, description="95% interval of t; null for a ratio of two totals")
    bracket: OpenInterval | None = Field(None, description="What the measured points of the two curves leave of t")
    curves: Literal["top1"] | None = Field(
        None, description="Accuracy of the two curves whatever `metric` is; null where two totals are compared"
    )
    months: Months = Field(description="Months of t")


class LifetimeDoublings(Record):
    """Training and inference together over Q queries."""

    queries: Number = Field(description="Q, queries over the lifetime")
    doublings: float = Field(description="log2 of the lifetime ratio R(Q)")
    months: Months = Field(description="Months of these doublings")
    break_even: float | None = Field(description="Queries after which the variant has cost less")


class Headline(Record):
    """What the run shows against the recipe's first reference."""

    granted: bool = Field(description="Whether a saving is granted; otherwise variant is the one that was refused")
    reference: str | None = Field(description="Reference of the savings; null where nothing was compared")
    variant: str | None = Field(description="Cheapest granted variant; null where no cheaper one was tested")
    tolerance: Fraction | None = Field(description="Loss of accuracy that counts as equal")
    metric: MetricName = Field("top1", description="Accuracy that has to be equal, which loss is of")
    images: Count | None = Field(None, description="Test images that the two were compared on")
    loss: float | None = Field(None, description="Accuracy that the file lost against the reference; a fraction")
    loss_ci95: Interval | None = Field(None, description=f"95% interval of loss: {PAIRED_OR_BALANCED}")
    reason: str | None = Field(None, description="Why nothing is granted")
    file: HeadlineFile | None = Field(None, description="File to deploy")
    inference: InferenceDoublings | None = Field(None, alias="k", description="k: doublings of inference compute")
    training: TrainingDoublings | None = Field(
        None,
        alias="t",
        description="t: doublings of training compute; null where it, or earlier training, is not known",
    )
    life: LifetimeDoublings | None = Field(
        None, description="Training and inference together; null where earlier training is not known"
    )


class SavingInMonths(Months):
    """A saving or a loss of the run, and its months by one trend."""

    of: Literal["inference", "training"] = Field(description="Compute that is saved or lost")
    variant: str = Field(description="Id of the variant")
    against: str = Field(description="Id of the variant that it is counted against")
    doublings: float | None = Field(description="Doublings; negative for a loss, null where not even a sign is known")
    doublings_ci95: OpenInterval | None = absent("95% interval of doublings of training compute")
    bound: Bound | None = Field(None, description="Whether they are only a bound; one on a loss has no months")
