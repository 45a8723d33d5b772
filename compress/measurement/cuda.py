"""Timing on an NVIDIA GPU by its own events, its peak memory, and the clocks that timings hold for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from compress.measurement.counters import nvml_device
from compress.measurement.latency import Timer


def time_runs(run: Callable[[], object], repetitions: int, device: torch.device) -> list[float]:
    """Return the milliseconds of each of `repetitions` runs, between two events on the GPU `device`.

    Each run begins on an idle GPU, as a single request does, so that the time to launch its kernels counts.
    """
    times = []
    with torch.cuda.device(device):  # events are of the current device
        for _ in range(repetitions):
            start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()  # what the caller ran before would hide the launches
            start.record()
            run()
            end.record()
            end.synchronize()
            times.append(float(start.elapsed_time(end)))
    return times


def timer_on(device: torch.device) -> Timer:
    """Return what times runs on the GPU `device`; see `time_runs`."""
    return partial(time_runs, device=device)


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Return the most memory in bytes that tensors took on the GPU `device` during a run, those before it included."""
    with torch.cuda.device(device):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()


@dataclass(frozen=True)
class Clocks:
    """Clocks in MHz and power in watts of a GPU at a moment, as NVML reports them."""

    sm_mhz: int
    memory_mhz: int
    most_sm_mhz: int  # clock that the chip reaches at most
    power_w: float
    limit_w: float  # of power


def clocks(index: int = 0) -> Clocks | None:
    """Read the clocks of a GPU, as torch counts them; None where NVML cannot be asked."""
    try:
        nvml, handle = nvml_device(index)
        return Clocks(
            sm_mhz=nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
            memory_mhz=nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
            most_sm_mhz=nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM),
            power_w=nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
            limit_w=nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000,
        )
    except Exception:  # the types of the library are not public
        return None
