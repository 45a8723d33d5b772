"""The arithmetic of idle power, on a machine whose time and power are made up."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from compress.measurement.counters import CounterError
from compress.measurement.energy import Energy, measure_energy, wait_for_gpu


class Machine:
    """Draws `idle` watts always and `busy` watts more while it works; one run takes a quarter of a second."""

    name = "made up"

    def __init__(self, idle: float, busy: float) -> None:
        self.idle, self.busy, self.now, self.used, self.runs = idle, busy, 100.0, 50.0, 0

    def run(self) -> None:
        self.runs += 1

    def synchronize(self) -> None:
        """The work is done while it is waited for, as on a GPU."""
        self._pass(0.25, self.idle + self.busy)

    def sleep(self, seconds: float) -> None:
        self._pass(seconds, self.idle)

    def _pass(self, seconds: float, watts: float) -> None:
        self.now, self.used = self.now + seconds, self.used + seconds * watts

    def joules(self) -> float:
        return self.used

    def measure(self, images: int = 8, at_least_s: float = 5.0) -> Energy:
        return measure_energy(
            self.run,
            self,
            images,
            at_least_s=at_least_s,
            synchronize=self.synchronize,
            clock=lambda: self.now,
            sleep=self.sleep,
        )


def test_idle_power_is_subtracted() -> None:
    machine = Machine(idle=10, busy=4)
    energy = machine.measure()
    # 4 W x 0.25 s for 8 images; the idle machine's 10 W are not in it.
    assert energy.value == pytest.approx(4 * 0.25 / 8)
    assert energy.method == "measured: made up, idle subtracted"
    assert energy.idle_w == pytest.approx(10)
    assert (energy.seconds, energy.images) == (pytest.approx(5.0), 20 * 8)
    assert machine.runs == 21  # one that is not measured


def test_a_slow_run_is_measured_to_its_end() -> None:
    energy = Machine(idle=10, busy=4).measure(at_least_s=0.1)
    assert (energy.seconds, energy.images) == (0.25, 8)
    assert energy.value == pytest.approx(0.125)


@pytest.mark.parametrize("busy", [0, -2])
def test_work_at_idle_power_has_unknown_energy(busy: float) -> None:
    energy = Machine(idle=10, busy=busy).measure()
    assert energy.value is None and energy.method is None
    assert energy.idle_w == pytest.approx(10)


def test_a_counter_that_stands_still_is_an_error() -> None:
    with pytest.raises(CounterError, match="made up stands still"):
        Machine(idle=0, busy=0).measure()


@pytest.mark.parametrize("used", [True, False])
def test_a_gpu_in_use_is_synchronized(used: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[bool] = []
    cuda = SimpleNamespace(is_initialized=lambda: used, synchronize=lambda: waits.append(True))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    wait_for_gpu()
    assert waits == [True] * used
