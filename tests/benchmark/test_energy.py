"""Energy of a run: measured apart from latency, cached, and never a reason to fail."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from support import Job

from compress.benchmark import energy
from compress.measurement.counters import CounterError, CounterLookup
from compress.measurement.energy import measure_energy
from compress.pipeline import measure


class FakeCounter:
    """An energy counter with a limited number of readings; every fourth one adds 1 kJ."""

    name = "made up"
    covers_gpus = False

    def __init__(self, readings: int) -> None:
        self.left, self.total = readings, 0.0

    def joules(self) -> float:
        if not self.left:
            raise CounterError("made up went away")
        self.left -= 1
        self.total += 1000.0 if self.left % 4 == 0 else 1e-6  # the last of four readings ends the workload
        return self.total


@pytest.fixture
def counted_job(done_job: Callable[[], Job], monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Job]:
    """Return a function that copies the finished job, with energy enabled and a counter of so many readings."""
    short = partial(measure_energy, at_least_s=0.0001, idle_s=0.001, sleep=lambda seconds: None)
    monkeypatch.setattr(energy, "measure_energy", short)

    def make(readings: int) -> Job:
        job = done_job()
        job.recipe.write_text(job.recipe.read_text().replace("energy: off", "carbon_g_per_kwh: 300"))
        monkeypatch.setattr(measure, "find_counter", lambda: CounterLookup(FakeCounter(readings), "made up"))
        return job

    return make


def energies(job: Job) -> dict[str, dict[str, Any]]:
    return {variant["id"]: variant["inference"]["energy_j"] for variant in job.results()["variants"]}


@pytest.mark.slow
def test_energy_is_measured_once_and_cached(counted_job: Callable[[int], Job], monkeypatch: pytest.MonkeyPatch) -> None:
    job = counted_job(4000)
    done = job.run_here()
    assert done.returncode == 0, done.stderr
    assert "latency: taken from the store" in done.stderr
    measured = energies(job)
    assert all(e["value"] > 0 and e["method"] == "measured: made up, idle subtracted" for e in measured.values())
    assert all(e["batch"] == 4 and e["seconds"] > 0 and e["idle_w"] is not None for e in measured.values())
    assert {row["runtime"] for row in measured["int8"]["rows"]} == {"onnxruntime", "openvino"}
    assert {row["runtime"] for row in measured["pruned"]["rows"]} == {"pytorch"}
    results = job.results()
    assert results["environment"]["energy_counter"] == "made up"
    assert all(variant["inference"]["carbon"]["g_per_million_images"] > 0 for variant in results["variants"])
    entry = next(v for v in results["efficiency"][1]["variants"] if v["id"] == "int8")
    assert entry["doublings"]["energy"] is not None and entry["energy_basis"]["runtime"] in ("onnxruntime", "openvino")
    monkeypatch.setattr(measure, "find_counter", lambda: CounterLookup(None, "readable for root only"))
    assert job.run_here().returncode == 0
    assert energies(job) == measured


def test_failing_counter_does_not_stop_the_run(counted_job: Callable[[int], Job]) -> None:
    job = counted_job(5)
    done = job.run_here()
    assert done.returncode == 0, done.stderr
    assert "energy: not measured: made up went away" in done.stderr
    assert all(energy["value"] is None for energy in energies(job).values())


def test_stated_power_gives_an_estimate_without_a_counter(done_job: Callable[[], Job]) -> None:
    job = done_job()
    job.recipe.write_text(job.recipe.read_text().replace("energy: off", "energy: off, watts: 15"))
    done = job.run_here()
    assert done.returncode == 0, done.stderr
    assert "latency: taken from the store" in done.stderr
    assert all(energy["method"] == "estimated: 15 W × latency" for energy in energies(job).values())


@pytest.mark.parametrize(
    ("runtime", "covered"),
    [
        ("pytorch", True),
        ("onnxruntime", True),
        ("openvino", True),
        ("onnxruntime-cuda", False),
        ("openvino-gpu", False),
        ("inductor-cuda", False),
        ("tensorrt-engine", False),
    ],
)
def test_a_counter_of_the_processor_says_nothing_of_other_devices(runtime: str, covered: bool) -> None:
    """RAPL would give a file on a GPU the little that its host draws meanwhile."""
    counter = FakeCounter(1)
    assert energy._covers(counter, runtime) is covered
    counter.covers_gpus = True
    assert energy._covers(counter, runtime)
