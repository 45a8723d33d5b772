"""Timing on a GPU, with events that are pretended: order of calls, memory, clocks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from compress.measurement import cuda
from compress.measurement.counters import find_counter, nvml_counter
from compress.measurement.latency import measure_interleaved

GPU = torch.device("cuda", 1)


class Event:
    """An event of the current GPU that counts runs as milliseconds, and notes in `log` where it was recorded."""

    done = 0
    log: ClassVar[list[str]] = []

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = Event.done
        Event.log.append("record")

    def synchronize(self) -> None:
        self.waited = True
        Event.log.append("wait")

    def elapsed_time(self, end: Event) -> float:
        assert end.waited, "the time of an event that is not waited for is an error"
        return float(end.at - self.at)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Something that takes two milliseconds on the GPU."""
    Event.log = []

    @contextmanager
    def current(device: torch.device) -> Iterator[None]:
        Event.log.append(str(device))
        yield
        Event.log.append("left")

    note = Event.log.append
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "device", current)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: note("synchronize"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: note("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: note("read") or 7)

    def run() -> None:
        Event.done += 2
        note("run")

    return run


def test_each_run_is_timed_between_two_events(run: Callable[[], None]) -> None:
    assert cuda.time_runs(run, 3, GPU) == [2.0, 2.0, 2.0]
    times = measure_interleaved({"a": run}, 4, timer=cuda.timer_on(GPU))
    assert len(times["a"]) == 4 and {time for taken in times["a"] for time in taken} == {2.0}


def test_runs_begin_on_an_idle_gpu_and_on_their_own(run: Callable[[], None]) -> None:
    """What ran before a timed run would hide the time to launch it; another GPU's events would have only that time."""
    cuda.time_runs(run, 2, GPU)
    assert Event.log == ["cuda:1", *["synchronize", "record", "run", "record", "wait"] * 2, "left"]
    Event.log.clear()
    assert cuda.peak_bytes(run, GPU) == 7
    assert Event.log == ["cuda:1", "synchronize", "reset", "run", "synchronize", "read", "left"]


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
