"""The `worth` section: what savings are counted against, by which trend, and how much a deployed model is asked."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from compress.recipe.section import Fraction, Identifier, Section


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


class Deployment(Section):
    """How much a deployed model is asked, and what the machine that answers costs."""

    name: str
    queries: float | None = Field(None, gt=0, description="images that it is asked over its life")
    hit_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    inference_share: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="share of inference in what the reference costs over its life"
    )
    price_per_hour: float | None = Field(
        None, gt=0, description="of a machine like the one that latency is measured on"
    )
    currency: str = "USD"
    source: str = ""


class Worth(Section):
    """What savings are counted against."""

    references: list[Identifier] = Field([], description="variants; without any, the first one")
    tolerance: Fraction = Field(0.01, description="loss of accuracy that counts as equal, as a fraction")
    reach: list[Fraction] = Field(
        [], description="accuracies to which training compute is compared, besides the baseline's own last one"
    )
    trend: Trend
    deployment: Deployment | None = None
