"""What was measured on other machines, which `measure.on` names."""

from __future__ import annotations

from pydantic import Field

from compress.results.base import Count, Record, absent
from compress.results.inference import Batch, LatencyRow, Runtime


class HostMachine(Record):
    """Another machine and its packages, as it described itself."""

    processor: str = Field(description="Name of the processor, or of the board or chip that it is part of")
    cores: Count = Field(description="Processor cores that can be used")
    cpu_quota: float | None = Field(None, description="CPU quota of its container, in cores")
    threads: Count = Field(description="Threads of the runtime")
    platform: str = Field(description="Operating system and C library")
    python: str = Field(description="Version of Python")
    packages: dict[str, str | None] = Field(description="Versions by package; null where unknown")


class HostMeasurement(Record):
    """Latency and memory of the files of one runtime on another machine; ratios are within it."""

    host: str = Field(description="Address of the machine")
    runtime: Runtime
    batch: Batch = Field(description="Batch size of peak_memory_bytes, images")
    measured: str | None = Field(None, description="Time of the measurement, ISO 8601, UTC")
    machine: HostMachine | None = Field(None, description="The machine; null where nothing was measured")
    latency: dict[str, tuple[LatencyRow, ...]] = Field(
        {}, description="Latency by variant, interleaved with the others"
    )
    reference: str | None = Field(
        None, description="Variant that ratios are to: the recipe's first reference with such a file; null without one"
    )
    peak_memory_bytes: dict[str, Count | None] = Field(
        {}, description="Peak resident memory of a process that runs the largest batch, by variant; null where unknown"
    )
    reason: str | None = absent("Why nothing was measured")
