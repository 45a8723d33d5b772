"""What a recipe may say about measuring on the machine."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from compress.recipe.base import Section


class Measure(Section):
    """How latency and energy are measured: latency in turns, so that a slow spell of the machine hits all alike."""

    batches: list[Annotated[int, Field(ge=1, le=1024)]] = Field([1, 16], min_length=1)
    rounds: int = Field(30, ge=5, description="turns; each gives one timing a variant")
    threads: int | None = Field(None, ge=1, description="threads of every runtime; without it, all cores")
    energy: Literal["auto", "off"] = Field(
        "auto", description="auto: where the machine has a counter, which takes ten seconds a variant and runtime"
    )
    watts: float | None = Field(
        None, gt=0, description="power while it computes, less idle: energy without a counter is estimated from it"
    )
    carbon_g_per_kwh: float | None = Field(None, gt=0, description="grams of CO2e a kilowatt-hour of its electricity")
