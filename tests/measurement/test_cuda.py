"""Timing on a GPU, with events that are pretended: order of calls, batch sizes, memory that runs out, clocks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from compress.measurement import cuda
from compress.measurement.counters import find_counter, nvml_counter
from compress.measurement.latency import measure_interleaved


class Event:
    """An event of a GPU that counts runs as milliseconds."""

    done = 0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = Event.done

    def synchronize(self) -> None:
        self.waited = True

    def elapsed_time(self, end: Event) -> float:
        assert end.waited, "the time of an event that is not waited for is an error"
        return float(end.at - self.at)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Something that takes two milliseconds on the GPU."""
    monkeypatch.setattr(torch.cuda, "Event", Event)

    def run() -> None:
        Event.done += 2

    return run


def test_each_run_is_timed_between_two_events(run: Callable[[], None]) -> None:
    assert cuda.time_runs(run, 3) == [2.0, 2.0, 2.0]
    times = measure_interleaved({"a": run}, 4, timer=cuda.time_runs)
    assert len(times["a"]) == 4 and {time for taken in times["a"] for time in taken} == {2.0}


def rates(ms: Callable[[int], float], most: int = 64, room: int = 1000) -> dict[int, float]:
    """Throughput of something that takes `ms(batch)`, on a device with room for so many images."""

    def make(batch: int) -> Callable[[], object]:
        if batch > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return lambda: batch

    def timer(run: Callable[[], Any], repetitions: int) -> list[float]:
        return [ms(run())] * repetitions

    return cuda.throughput_by_batch(make, most, timer)


def test_batches_are_doubled_until_they_bring_no_more() -> None:
    assert rates(lambda batch: max(8, batch)) == {1: 125, 2: 250, 4: 500, 8: 1000, 16: 1000}
    assert list(rates(lambda batch: 1.0)) == [1, 2, 4, 8, 16, 32, 64]
    assert list(rates(lambda batch: 1.0, room=5)) == [1, 2, 4]
    with pytest.raises(torch.OutOfMemoryError):
        rates(lambda batch: 1.0, room=0)


def with_nvml(monkeypatch: pytest.MonkeyPatch, **functions: Any) -> None:
    nvml: Any = ModuleType("pynvml")
    calls = {"nvmlInit": lambda: None, "nvmlDeviceGetHandleByIndex": lambda index: f"gpu {index}"}
    vars(nvml).update(calls | functions | {"NVML_CLOCK_SM": 1, "NVML_CLOCK_MEM": 2})
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_energy_is_read_by_nvml_where_zeus_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zeus", None)
    readings = iter([1000, 3500])
    with_nvml(monkeypatch, nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(readings))
    found = find_counter("cuda", 1)
    assert found.counter and found.detail == "NVML counter of GPU 1" and found.counter.joules() == 3.5
    with_nvml(monkeypatch)  # a GPU without a counter
    assert nvml_counter(0) is None


def test_a_gpu_is_found_by_its_uuid_whatever_devices_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    with_nvml(
        monkeypatch,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: {"GPU-abc": 2000}[handle],
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="abc"))
    found = nvml_counter(0)
    assert found and found.counter and found.counter.joules() == 2.0


def test_clocks_are_read_and_unknown_without_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    with_nvml(
        monkeypatch,
        nvmlDeviceGetClockInfo=lambda handle, kind: 1000 * kind,
        nvmlDeviceGetMaxClockInfo=lambda handle, kind: 1980,
        nvmlDeviceGetPowerUsage=lambda handle: 75_000,
        nvmlDeviceGetEnforcedPowerLimit=lambda handle: 700_000,
    )
    assert cuda.clocks() == cuda.Clocks(1000, 2000, 1980, 75.0, 700.0)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert cuda.clocks() is None
