"""Load of the machine by other processes, which makes timings on all cores several times slower."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

BUSY = (0, 1, 2, 5, 6)
"""Columns of the first line of `/proc/stat` that are work: user, nice, system, irq, softirq (proc(5))."""


def with_other_load(work: Callable[[], T]) -> tuple[T, float | None]:
    """Return a result, and the mean number of cores that other processes used meanwhile; None where it is unknown."""
    before, started = _others_s(), time.perf_counter()
    result = work()
    after, seconds = _others_s(), time.perf_counter() - started
    return result, None if before is None or after is None else max(0.0, (after - before) / seconds)


def is_crowded(load: float, threads: int) -> bool:
    """Return whether other processes leave fewer cores than `threads`."""
    return load > (os.cpu_count() or 1) - threads + 0.1


def _others_s() -> float | None:
    """Seconds of work of all processors, without this process and its children that have ended."""
    try:
        ticks = [int(value) for value in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
        total = sum(ticks[column] for column in BUSY) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
    own = os.times()
    return total - own.user - own.system - own.children_user - own.children_system
