"""The `measure` section: how latency and energy are benchmarked, and whether robustness is."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from compress.recipe.base import Section
from compress.utils.errors import UsageError
from compress.utils.hosts import FORMS, parse_host

Corruption = Literal[
    "gaussian_noise",
    "shot_noise",
    "motion_blur",
    "defocus_blur",
    "jpeg",
    "contrast",
    "brightness",
    "pixelate",
]
CORRUPTIONS: tuple[Corruption, ...] = get_args(Corruption)


class Measure(Section):
    """Latency and energy benchmarks; timing rounds are interleaved, so that a slow spell affects all variants alike."""

    batches: list[Annotated[int, Field(ge=1, le=1024)]] = Field(
        [1, 16], min_length=1, description="batch sizes to benchmark"
    )
    rounds: int = Field(30, ge=5, description="interleaved timing rounds of all variants, shared out among `processes`")
    processes: int = Field(
        3,
        ge=1,
        le=100,
        description="fresh processes in which every file is timed; 1: in the run's own, without their differences",
    )
    threads: int | None = Field(None, ge=1, description="threads of every runtime; default: all cores")
    on: list[str] = Field(
        [],
        description=f"other machines to benchmark the artifacts on, besides this one: {FORMS}",
    )
    energy: Literal["auto", "off"] = Field(
        "auto", description="auto: measure if the machine has an energy counter, about 10 s per variant and runtime"
    )
    watts: float | None = Field(
        None, gt=0, description="power under load minus idle, in W; used to estimate energy without a counter"
    )
    carbon_g_per_kwh: float | None = Field(None, gt=0, description="carbon intensity of electricity, in g CO2e per kWh")
    corruptions: Literal["all"] | list[Corruption] = Field(
        [],
        description="corruptions of the test images that every network and file is evaluated on, or all; each at three "
        "severities, which takes as long as three evaluations of all files",
    )

    ood: str | None = Field(
        None,
        min_length=1,
        exclude_if=lambda folder: folder is None,  # resolved recipes without it stay as they were
        description="folder of images of none of the classes (out of distribution), which every network and file is "
        "asked to tell from the test images",
    )

    @field_validator("on")
    @classmethod
    def _are_addresses(cls, addresses: list[str]) -> list[str]:
        for number, address in enumerate(addresses):
            try:
                parse_host(address)
            except UsageError as error:
                raise ValueError(str(error)) from error
            if address in addresses[:number]:
                raise ValueError(f"{address} is named twice")
        return addresses

    @field_validator("corruptions")
    @classmethod
    def _are_named_once(cls, named: Literal["all"] | list[Corruption]) -> Literal["all"] | list[Corruption]:
        if named != "all" and (twice := [name for row, name in enumerate(named) if name in named[:row]]):
            raise ValueError(f"{twice[0]} is named twice")
        return named

    @property
    def corruption_names(self) -> tuple[Corruption, ...]:
        """The corruptions to measure, in the order of `CORRUPTIONS`."""
        return tuple(name for name in CORRUPTIONS if self.corruptions == "all" or name in self.corruptions)
