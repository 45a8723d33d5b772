"""The `worth` section: what savings are counted against, by which trend, and the devices that models are for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from compress.recipe.base import Fraction, Identifier, Section
from compress.recipe.runtime_name import Runtime

DEFAULT_TREND = "epoch-fp32"
"""The trend of a recipe without `trend:`, and the one shown where there is room for one only."""


class Trend(Section):
    """Yearly growth of training compute and of the hardware that it runs on."""

    name: str
    growth: float = Field(gt=1, description="training compute, times a year")
    growth_ci90: tuple[float, float] | None = Field(None, description="its 90% interval, where the source has one")
    hardware: float = Field(ge=1, description="hardware, times a year")
    hardware_ci90: tuple[float, float] | None = Field(None, description="its 90% interval, where the source has one")
    basis: str
    source: str
    until: int | None = Field(None, description="last year for which it was found; without it, it still goes on")


class Budgets(Section):
    """What a device asks of a model. Each is a requirement of whoever deploys it; what is left out is not asked."""

    latency_ms: float | None = Field(None, gt=0, description="until a batch is answered, 99th percentile")
    memory_mb: float | None = Field(None, gt=0, description="peak of the process that runs it, in 10^6 bytes")
    size_mb: float | None = Field(None, gt=0, description="of the files that are deployed, in 10^6 bytes")
    energy_j: float | None = Field(None, gt=0, description="of an image")


class Deployment(Section):
    """A device, what it asks of a model, how much the model is asked there, and what that costs."""

    name: str
    hardware: str = Field("", description="which device, in words")
    processor: str | None = Field(
        None,
        min_length=1,
        description="part of its processor's name as `compress-model doctor` gives it; where this machine's has it, "
        "what is measured here holds for the device",
    )
    runtime: Runtime | None = Field(None, description="what runs the model there")
    batch: int = Field(1, ge=1, le=1024, description="images that are answered together")
    threads: int | None = Field(None, ge=1, description="of the runtime; without it, as many as were measured")
    budgets: Budgets = Budgets()
    watts: float | None = Field(
        None,
        gt=0,
        description="highest power of the device, by its maker; energy without a counter is estimated from it",
    )
    queries: float | None = Field(None, gt=0, description="images that it is asked over its life")
    hit_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    inference_share: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="share of inference in what the reference costs over its life"
    )
    price_per_hour: float | None = Field(
        None, gt=0, description="of a machine like the one that latency is measured on"
    )
    currency: str = "USD"
    source: str = Field("", description="where its figures come from")


class Worth(Section):
    """What savings are counted against."""

    references: list[Identifier] = Field([], description="variants; without any, the first one")
    tolerance: Fraction = Field(0.01, description="loss of accuracy that counts as equal, as a fraction")
    reach: list[Fraction] = Field(
        [], description="accuracies to which training compute is compared, besides the baseline's own last one"
    )
    trend: Trend
    deployment: Deployment | None = Field(None, description="what lifetime and price are counted for")
    deployments: list[Deployment] = Field([], description="devices, for each of which the variant that fits is found")
