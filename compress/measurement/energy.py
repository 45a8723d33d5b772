"""Energy per inference by a counter, less the idle power of the machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from compress.measurement.counters import Counter, CounterError

MIN_SECONDS = 5.0
IDLE_S = 3.0

SETTLE_S = 1.0
"""Pause before idle power is measured: threads of a runtime spin for a while after their last work."""


@dataclass(frozen=True)
class Energy:
    """Energy of one image.

    Attributes:
        value: Joules per image; None if the work drew no more than the idle machine.
        method: How it was measured; None if `value` is.
        idle_w: Idle power in watts by the same counter, which was subtracted.
        seconds: Duration of the measurement.
        images: Number of images in that time.
    """

    value: float | None
    method: str | None
    idle_w: float
    seconds: float
    images: int


def wait_for_gpu() -> None:
    """Wait for the GPU to finish, if this process uses one. Imports no torch."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def measure_energy(
    run: Callable[[], object],
    counter: Counter,
    images: int,
    *,
    at_least_s: float = MIN_SECONDS,
    idle_s: float = IDLE_S,
    synchronize: Callable[[], None] = wait_for_gpu,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Energy:
    """Measure the energy per image of repeated runs, less the idle power measured before them.

    A counter covers the whole device, with everything else that runs on it.

    Args:
        run: One inference.
        counter: Counter of the device.
        images: Images per run.
        at_least_s: Shortest duration of all runs in seconds. A GPU's counter is updated about ten times a
            second, RAPL's every millisecond.
        idle_s: Duration of the measurement of idle power in seconds.
        synchronize: Waits for the device to finish.
        clock: Returns the time in seconds.
        sleep: Waits a number of seconds.

    Raises:
        CounterError: the counter cannot be read, or stands still.
    """
    run()  # warm-up: work of the first run alone does not count
    synchronize()
    sleep(SETTLE_S)
    start, before = clock(), counter.joules()
    sleep(idle_s)
    idle_w = (counter.joules() - before) / (clock() - start)
    runs, seconds = 0, 0.0
    start, before = clock(), counter.joules()
    while seconds < at_least_s:
        run()
        synchronize()
        runs, seconds = runs + 1, clock() - start
    used = counter.joules() - before
    if used <= 0:
        raise CounterError(f"{counter.name} stands still")
    net = used - idle_w * seconds
    value = net / (runs * images) if net > 0 else None
    method = f"measured: {counter.name}, idle subtracted" if value else None
    return Energy(value, method, idle_w, seconds, runs * images)
