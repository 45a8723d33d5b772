"""The `worth` section: reference variants, accuracy tolerance, growth trend and target devices."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from compress.recipe.base import AccuracyLoss, Fraction, Identifier, Section
from compress.recipe.runtime_name import Runtime
from compress.utils.metric_name import MetricName


class Trend(Section):
    """Yearly growth of training compute and of the hardware it runs on."""

    name: str = Field(description="name in the report")
    growth: float = Field(gt=1, description="yearly growth factor of training compute")
    growth_ci90: tuple[float, float] | None = Field(None, description="90% interval of `growth`, if published")
    growth_ci95: tuple[float, float] | None = Field(None, description="95% interval of `growth`, if published")
    hardware: float = Field(ge=1, description="yearly growth factor of hardware")
    hardware_ci90: tuple[float, float] | None = Field(None, description="90% interval of `hardware`, if published")
    hardware_ci95: tuple[float, float] | None = Field(None, description="95% interval of `hardware`, if published")
    basis: str = Field(description="quantities that the factors describe")
    source: str = Field(description="where the figures come from")
    since: int | None = Field(None, description="first year of the data")
    until: int | None = Field(None, description="last year of the data; no months after it; default: ongoing")
    hardware_until: int | None = Field(None, description="last year of the hardware's data; default: `until`")

    @field_validator("growth_ci90", "growth_ci95", "hardware_ci90", "hardware_ci95")
    @classmethod
    def _contains_its_rate(cls, ends: tuple[float, float] | None, info: ValidationInfo) -> tuple[float, float] | None:
        rate = info.data.get(str(info.field_name).partition("_")[0])
        if ends and rate is not None and not 0 < ends[0] <= rate <= ends[1]:
            raise ValueError(f"must be [low, high] around {rate:g}")
        return ends


class Budgets(Section):
    """Requirements of a device; only those that are set are checked."""

    latency_ms: float | None = Field(None, gt=0, description="99th percentile latency of a batch, in ms")
    memory_mb: float | None = Field(None, gt=0, description="peak memory of the process, in MB (10^6 bytes)")
    size_mb: float | None = Field(None, gt=0, description="size of the deployed files, in MB (10^6 bytes)")
    energy_j: float | None = Field(None, gt=0, description="energy per image, in J")


class Deployment(Section):
    """A target device: its runtime, budgets, load and cost."""

    name: str = Field(description="name in the report")
    hardware: str = Field("", description="device, as free text")
    processor: str | None = Field(
        None,
        min_length=1,
        description="part of its processor name in `compress-model doctor`; if it matches, measurements here apply",
    )
    runtime: Runtime | None = Field(None, description="runtime on the device")
    toolchain: str | None = Field(
        None, min_length=1, description="how a model gets onto a device that no runtime here serves, as free text"
    )
    batch: int = Field(1, ge=1, le=1024, description="batch size on the device")
    threads: int | None = Field(None, ge=1, description="threads of the runtime; default: as benchmarked")
    budgets: Budgets = Budgets()
    watts: float | None = Field(
        None, gt=0, description="maximum power by its vendor, in W; used to estimate energy without a counter"
    )
    queries: float | None = Field(None, gt=0, description="images classified over its lifetime")
    hit_rate: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="share of queries answered by a cache")
    inference_share: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="share of inference in the reference's lifetime cost"
    )
    price_per_hour: float | None = Field(None, gt=0, description="hourly price of the device, for a million images")
    currency: str = Field("USD", description="currency of the price")
    source: str = Field("", description="where the figures come from")


class Worth(Section):
    """Reference variants of savings, accuracy tolerance, growth trend and target devices."""

    references: list[Identifier] = Field([], description="ids of reference variants; default: the first variant")
    tolerance: AccuracyLoss = Field(0.01, description="accuracy loss that counts as equal, as a fraction")
    metric: MetricName = Field(
        "top1",
        description="accuracy that has to be equal: top1, balanced (mean recall of the classes, for imbalanced data), "
        "or top5 (from 20 classes on)",
    )
    threshold: Fraction = Field(
        0.9,
        description="confidence from which on your application accepts a prediction; the report says how many it then "
        "accepts, and which threshold gives a variant the precision of the reference",
    )
    reach: list[Fraction] = Field(
        [], description="target accuracies for comparing training compute, besides those of variant and baseline"
    )
    targets: list[Fraction] = Field(
        [], description="target accuracies on the test images; the report says which files are shown to reach them"
    )
    compute_matched: bool = Field(
        False,
        description="also train every train stage for as much compute as each distilled or repaired variant took "
        "(a match stage each)",
    )
    trend: Trend
    deployment: Deployment | None = Field(None, description="device for lifetime cost and price")
    deployments: list[Deployment] = Field([], description="devices to find a fitting variant for")
