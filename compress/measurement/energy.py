"""Energy of an inference, by a counter, without what the machine draws when it does nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from compress.measurement.counters import Counter, NoReading

AT_LEAST_S = 5.0
IDLE_S = 3.0

SETTLE_S = 1.0
"""Threads of a runtime spin for a while after their last work; idle power is taken after that."""


@dataclass(frozen=True)
class Energy:
    """Energy of one image.

    Attributes:
        value: Joules an image; None where the work drew no more than idleness.
        method: By what it was found; None where `value` is.
        idle_w: Power of the idle machine, by the same counter, in watts: what was subtracted.
        seconds: How long the work was measured.
        images: How many images that were.
    """

    value: float | None
    method: str | None
    idle_w: float
    seconds: float
    images: int


def wait_for_gpu() -> None:
    """Wait until the GPU has done what it was given, where this process uses one. Imports no torch."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def measure_energy(
    run: Callable[[], object],
    counter: Counter,
    images: int,
    *,
    at_least_s: float = AT_LEAST_S,
    idle_s: float = IDLE_S,
    synchronize: Callable[[], None] = wait_for_gpu,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Energy:
    """Energy per image of what runs again and again for some seconds, less the power of the idle machine before it.

    A counter is of the whole device: what else runs on it meanwhile is counted too.

    Args:
        run: One inference; each is waited for before the next one.
        counter: Of the device that it runs on.
        images: Images of one run.
        at_least_s: Seconds that the runs take at least. Counters are updated up to ten times a second only.
        idle_s: Seconds over which idle power is taken.
        synchronize: Waits until the device has done what it was given.
        clock: The time, in seconds.
        sleep: Waits some seconds without work.

    Raises:
        NoReading: the counter cannot be read, or stands still.
    """
    run()  # what only a first run does is no part of an inference
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
        raise NoReading(f"{counter.name} stands still")
    net = used - idle_w * seconds
    value = net / (runs * images) if net > 0 else None
    method = f"measured: {counter.name}, idle subtracted" if value else None
    return Energy(value, method, idle_w, seconds, runs * images)
