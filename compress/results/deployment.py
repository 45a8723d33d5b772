"""Devices: their budgets, which variant fits which device, and the cost of a million images."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from compress.results.base import Count, Fraction, Record, absent
from compress.results.inference import Batch, Precision, Runtime, Threads

BudgetName = Literal["latency_ms", "memory_mb", "size_mb", "energy_j"]
Verdict = Literal["met", "not met", "not measured"]


class Budgets(Record):
    """Requirements of a device; null where there is none."""

    latency_ms: float | None = Field(None, description="99th percentile latency of one batch, milliseconds")
    memory_mb: float | None = Field(None, description="Peak memory of the process, 10^6 bytes")
    size_mb: float | None = Field(None, description="Size of the deployed files, 10^6 bytes")
    energy_j: float | None = Field(None, description="Energy per image, joules")


class DeviceProfile(Record):
    """A device, as the recipe describes it."""

    name: str = Field(description="Name of the profile")
    hardware: str = Field("", description="Description of the device")
    processor: str | None = Field(
        None, description="Part of the processor's name; a machine whose processor matches counts as the device"
    )
    runtime: str | None = Field(None, description="Runtime on the device")
    toolchain: str | None = Field(None, description="How a model gets onto a device that no runtime here serves")
    batch: Count = Field(1, description="Batch size, images")
    threads: Count | None = Field(None, description="Threads of the runtime; null for as many as were measured")
    budgets: Budgets = Field(Budgets(), description="Requirements of the device")
    watts: float | None = Field(None, description="Maximum power of the device according to its maker")
    queries: float | None = Field(None, description="Queries over its lifetime")
    hit_rate: Fraction = Field(0.0, description="Share of queries that a response cache serves")
    inference_share: Fraction | None = Field(None, description="Share of inference in the reference's lifetime cost")
    price_per_hour: float | None = Field(None, description="Price of one machine hour, in currency")
    currency: str = Field("USD", description="Currency code")
    source: str = Field("", description="Source of these figures")


class MillionImages(Record):
    """Cost of a million images on the device, on a machine that never idles; null where it was not measured."""

    id: str = Field(description="Id of the variant")
    runtime: Runtime | None = None
    precision: Precision | None = None
    batch: Batch | None = None
    threads: Threads | None = None
    seconds: float | None = Field(None, description="Machine time, seconds")
    price: float | None = Field(None, description="Price of that time, in currency")
    energy_j: float | None = Field(None, description="Energy, joules")
    energy_method: str | None = absent("Method of energy_j; starts with 'measured' or 'estimated' and names the source")
    reason: str | None = Field(None, description="Why nothing is known: no measurement matches the profile")


class Deployment(Record):
    """Cost of a million images under the recipe's deployment."""

    profile: DeviceProfile = Field(description="The recipe's deployment")
    variants: tuple[MillionImages, ...] = Field(description="Every variant")


class BudgetCheck(Record):
    """One budget of a device held against what was measured."""

    what: BudgetName = Field(description="Budget, with its unit")
    limit: float = Field(description="Maximum, in that unit")
    value: float | None = Field(description="Measured value, in that unit")
    verdict: Verdict = Field(description="met, not met or not measured")
    basis: str = Field(description="Basis of the value, or why it is not known")


class VariantFit(Record):
    """One variant held against the budgets of a device."""

    id: str = Field(description="Id of the variant")
    as_accurate: bool = Field(
        description="Whether it is the reference or granted equal accuracy with it, and so is its file for the runtime"
    )
    budgets: tuple[BudgetCheck, ...] = Field(description="Every budget")
    meets: bool | None = Field(
        description="Whether all budgets are met; null where none is missed, but some are not measured, there are "
        "none, or there is no file for the runtime"
    )


class DeploymentFit(Record):
    """Which variant fits a device."""

    profile: DeviceProfile = Field(description="The device")
    here: bool = Field(description="Whether the machine of the run is such a device")
    host: str | None = absent("Machine of `measure.on` that is such a device, on which it was measured")
    reference: str = Field(description="Id of the variant that accuracy is compared with")
    fits: tuple[VariantFit, ...] = Field(description="Every variant")
    best: str | None = Field(
        description="Cheapest variant that is as accurate and meets all budgets, but for those that are slower than "
        "their FP32 variant, where that one does so too"
    )
    open: tuple[str, ...] = Field(
        description="Variants that are as accurate and not ruled out by a measurement, nor by their FP32 variant as in "
        "`best`, the cheapest first"
    )
