"""Savings of variants against a reference, over their lifetime and in training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from compress.results.base import (
    PAIRED_OR_BALANCED,
    Censored,
    Count,
    Fraction,
    Interval,
    MacsBracket,
    Number,
    OpenInterval,
    Record,
    absent,
)
from compress.results.inference import Batch, Precision, Resolution, Runtime, Threads
from compress.utils.metric_name import MetricName


class Trend(Record):
    """Yearly growth of training compute and of hardware, from the recipe."""

    name: str = Field(description="Name of the trend")
    growth: float = Field(description="Growth of training compute, factor per year")
    growth_ci90: Interval | None = Field(None, description="Its 90% interval, where the source gives one")
    growth_ci95: Interval | None = Field(None, description="Its 95% interval, where the source gives one")
    hardware: float = Field(description="Growth of hardware, factor per year")
    hardware_ci90: Interval | None = Field(None, description="Its 90% interval, where the source gives one")
    hardware_ci95: Interval | None = Field(None, description="Its 95% interval, where the source gives one")
    basis: str = Field(description="Quantity that grows")
    source: str = Field(description="Source of both rates")
    since: int | None = Field(None, description="First year of the data")
    until: int | None = Field(None, description="Last year of the data; null where the trend goes on")
    hardware_until: int | None = Field(None, description="Last year of the hardware's data; null where it is the same")


class PairedCounts(Record):
    """Predictions of reference and variant on the same test images."""

    only_reference: Count = Field(description="Images that only the reference classifies correctly")
    only_variant: Count = Field(description="Images that only the variant classifies correctly")
    images: Count = Field(description="Test images")


class Difference(Record):
    """Accuracy lost against the reference, on the same test images; all null where the two were not compared."""

    paired: PairedCounts | None = Field(None, description="Discordant test images of reference and variant")
    accuracy_difference: float | None = Field(
        None,
        description="(only_reference - only_variant) / images, of balanced accuracy the mean of that over the classes; "
        "positive where the variant is less accurate",
    )
    difference_ci95: Interval | None = Field(
        None, description=f"95% interval of accuracy_difference: {PAIRED_OR_BALANCED}"
    )
    exact_upper_bound: float | None = Field(
        None, description="Exact upper bound of accuracy_difference, 97.5% one-sided"
    )
    relative_error_increase: float | None = Field(
        None, description="accuracy_difference divided by the error rate of the reference"
    )


class FileSavings(Difference):
    """One file of a variant against the reference's network in PyTorch, by the file's own predictions."""

    runtime: Runtime
    precision: Precision | None = None
    path: str | None = Field(description="Path within the folder of the run; null for the network itself in PyTorch")
    bytes: Count = Field(description="Size of the file, or of the stored weights, in bytes")
    top1: Fraction | None = Field(description="Top-1 of the file in its runtime; null where it was not run")
    ci95: Interval | None = Field(description="Wilson 95% score interval of top1")
    granted: bool = Field(description="Non-inferiority shown within the tolerance on the same test images")
    granted_adjusted: bool = Field(
        description="Granted, also if all files of the variant with different predictions count as tests"
    )
    reason: str = Field(description="Reason, in one sentence")


class Doublings(Record):
    """log2 of the reference's cost divided by the variant's, per cost; side by side and never multiplied."""

    macs: float | None = Field(description="In multiply-accumulates")
    bit_operations: float | None = Field(
        description="In bit operations: those that the file executes; null where unknown, as where none was run, and "
        "where MACs and bit widths are no lower, so that the sequence of tests does not cover a gain"
    )
    latency: float | None = Field(description="In median latency, in the setting of latency_basis")
    energy: float | None = Field(description="In energy of inference, in the setting of energy_basis")


class LatencyBasis(Record):
    """Fastest file of the reference that is not shown to be worse, and of the variant's granted ones.

    Both at the largest batch that both were timed at, and with the same threads.
    """

    runtime: Runtime
    precision: Precision
    batch: Batch
    threads: Threads
    resolution: Resolution
    reference_runtime: str = Field(description="Runtime of the reference")
    reference_precision: str = Field(description="Precision of the reference")
    reference_ms: float = Field(description="Median latency of the reference, milliseconds")
    variant_ms: float = Field(description="Median latency of the variant, milliseconds")
    ratio: float = Field(description="Latency of the reference divided by the variant's")
    ratio_ci95: Interval | None = Field(None, description="95% interval of the ratio")


class EnergyBasis(Record):
    """Files of reference and variant with the lowest energy, chosen as for latency, by the same method and batch."""

    runtime: Runtime
    precision: Precision
    batch: Batch
    method: str = Field(description="Source of both energies")
    reference_runtime: str = Field(description="Runtime of the reference")
    reference_precision: str = Field(description="Precision of the reference")
    reference_j: float = Field(description="Energy of the reference, joules per image")
    variant_j: float = Field(description="Energy of the variant, joules per image")
    ratio: float = Field(description="Energy of the reference divided by the variant's")


class LifetimeRatio(Record):
    """Lifetime ratio R(Q) at one number of queries."""

    queries: Number = Field(description="Queries, one image each")
    ratio: float = Field(description="Lifetime MACs of the reference divided by the variant's")


class QueryMacs(Record):
    """MACs of one query."""

    reference: Count = Field(description="MACs per image of the reference")
    variant: Count = Field(description="MACs per image of the variant")


class ShareRatio(Record):
    """Lifetime ratio where inference has a given share of the reference's lifetime cost."""

    share: Fraction = Field(description="Share of inference")
    effort: float = Field(description="Extra training of the variant over the reference's lifetime cost")
    ratio: float = Field(description="Lifetime ratio at that share")
    ceiling: float = Field(description="Lifetime ratio if inference cost nothing and the variant no extra training")


class Lifetime(Record):
    """Lifetime ratio R(Q): training and Q queries of the reference against those of the variant."""

    unit: str = Field(description="Unit of the costs: macs")
    at_queries: tuple[LifetimeRatio, ...] = Field(description="R at several numbers of queries")
    query_macs: QueryMacs = Field(description="MACs of one query")
    limit: float | None = Field(description="R for infinitely many queries")
    reference_training: Number = Field(description="Training MACs of the reference, those of earlier training included")
    variant_training: Number = Field(
        description="Training MACs of the variant, those of earlier training included, and the reference's where it "
        "was made from it"
    )
    hit_rate: Fraction = Field(description="Share of queries that a response cache serves")
    at_inference_share: ShareRatio | None = Field(None, description="R where the recipe states inference's share")


class VariantSavings(Difference):
    """Saving of one variant against the reference.

    The difference is that of one file: of the granted ones the fastest; without one, the closest to it.
    """

    id: str = Field(description="Id of the variant")
    file: Runtime
    file_precision: Precision | None = None
    tested: bool = Field(
        description="Whether its test decided: false after a refusal in the sequence, and for what is not a candidate"
    )
    granted: bool = Field(description="One of its files is granted, and so is every variant that was tested before it")
    reason: str = Field(description="Reason, in one sentence")
    files: tuple[FileSavings, ...] = Field(description="Every file, with its own decision")
    doublings: Doublings = Field(
        description="Doublings of efficiency: of MACs and bit operations granted or not, else null if not granted"
    )
    latency_basis: LatencyBasis | None = Field(description="Files and setting of doublings of latency")
    energy_basis: EnergyBasis | None = Field(description="Files and setting of doublings of energy")
    lifetime: Lifetime | None = Field(
        description="Lifetime ratio; null where nothing is granted, or where earlier training is unknown"
    )
    break_even_queries: float | None = Field(
        description="Queries, cached ones included, after which the saved MACs repay the extra training; null where "
        "that is unknown, earlier training included unless it is the same for both, and where no MACs are saved"
    )
    months_of_growth: float | None = Field(
        description="12 x doublings of MACs / log2(growth); null where nothing is granted"
    )


class Savings(Record):
    """Savings of all variants against one reference."""

    reference: str = Field(description="Id of the variant that savings are counted against")
    tolerance: Fraction = Field(description="Loss of accuracy that counts as equal")
    metric: MetricName = Field(
        "top1",
        description="Accuracy that has to be equal. Unless it is top1, accuracy_difference and what follows from it "
        "are of this one: of balanced accuracy the mean over the classes",
    )
    trend: Trend = Field(description="Trend that doublings are converted to months with")
    interval_method: str = Field(description="Method of difference_ci95")
    exact_method: str = Field(description="Method of exact_upper_bound")
    reference_files: tuple[FileSavings, ...] = Field(description="Files of the reference, against its own network")
    variants: tuple[VariantSavings, ...] = Field(description="Every other variant")


class PretrainingRatio(Record):
    """Training efficiency with earlier training added: of the teacher, and of initial weights."""

    macs: Number | None = Field(None, description="MACs that are added to the variant's; null where unknown")
    ratio: float | None = Field(description="Ratio of training compute; a bound where the target is not reached")
    doublings: float | None = Field(description="log2 of the ratio")
    doublings_ci95: OpenInterval | None = absent("95% bootstrap interval of doublings over the validation images")
    bracket: OpenInterval | None = absent("Doublings between which the measured points of both curves leave them")


class TrainingEfficiency(Record):
    """Compute to reach one validation accuracy: a baseline trained on labels against a variant.

    The baseline is a `train` stage at every length that the run has trained it for: its own epochs, and those of its
    `match` stages. In doublings, positive means that the variant took less compute.
    """

    baseline: str = Field(description="Id of the `train` stage")
    variant: str = Field(description="Id of the variant")
    target_top1: Fraction = Field(description="P, the accuracy on validation to reach")
    target_of: Literal["variant", "baseline", "recipe"] = Field(
        "baseline",
        description="Origin of the target: the variant's own accuracy, the baseline's after its longest training, or "
        "`reach` of the recipe",
    )
    chosen: bool = Field(description="Whether the recipe sets the target")
    primary: bool = Field(
        False, description="Whether this row is the training efficiency of the variant; at most one row per variant is"
    )
    baseline_curve: str | None = Field(None, description="Id of the variant whose curve the baseline's compute is from")
    variant_curve: str | None = Field(
        None,
        description="Id of the variant whose curve this is: the parent's of one quantized without training, lowered by "
        "what that lost on validation",
    )
    baseline_macs: Count | None = Field(
        description="Training MACs of the baseline to the target, interpolated between two points of its curve; null "
        "if it is not reached, or by the first point already"
    )
    variant_macs: Count | None = Field(description="Training MACs of the variant to the target, as baseline_macs")
    baseline_between: MacsBracket | None = Field(
        None, description="MACs of the last point of the baseline before the target and of the first point at it"
    )
    variant_between: MacsBracket | None = Field(None, description="The same two points of the variant")
    ratio: float | None = Field(
        description="Compute of the baseline over the variant's: a lower bound if censored is baseline, an upper bound "
        "if it is variant; null if both are, or if there is only a bracket"
    )
    censored: Censored | None = Field(description="Which of the two never reaches the target; null if both reach it")
    doublings: float | None = Field(description="log2 of the ratio, a bound where the ratio is one")
    doublings_ci95: OpenInterval | None = Field(
        None,
        description="95% bootstrap interval of doublings over the validation images, null at an end without a bound; "
        "null where a curve was stored without results per image",
    )
    bracket: OpenInterval | None = Field(
        None, description="Doublings between which the measured points of both curves leave the true value"
    )
    with_teacher_fine_tuning: PretrainingRatio | None = Field(
        None, description="With the fine-tuning of the teacher; null where none is stated"
    )
    with_teacher_pretraining: PretrainingRatio = Field(
        description="With the teacher's own training in full, and that of weights that either starts from"
    )
    months_of_growth: float | None = Field(
        description="12 x doublings / log2(growth); null where doublings are a bound, unknown or not all training: "
        "there was earlier training"
    )
    months_of_gap: float | None = Field(
        description="12 x doublings / (log2(growth) - log2(hardware)); null as months_of_growth"
    )

    @property
    def bound(self) -> Literal["at least", "at most"] | None:
        """Whether the doublings are only a bound: whoever never got there would have taken more."""
        bounds: dict[str | None, Literal["at least", "at most"]] = {"baseline": "at least", "variant": "at most"}
        return bounds.get(self.censored)
