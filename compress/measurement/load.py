"""Load of the machine by other processes, which makes timings on all cores several times slower."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from compress.utils.system import usable_cpus

T = TypeVar("T")

BUSY = (0, 1, 2, 5, 6)
"""Columns of the lines of `/proc/stat` that are work: user, nice, system, irq, softirq (proc(5))."""


def with_other_load(work: Callable[[], T]) -> tuple[T, float | None]:
    """Return a result, and the mean number of cores that other processes used meanwhile; None where it is unknown."""
    before, started = _others_s(), time.perf_counter()
    result = work()
    after, seconds = _others_s(), time.perf_counter() - started
    return result, None if before is None or after is None else max(0.0, (after - before) / seconds)


def is_crowded(load: float, threads: int) -> bool:
    """Return whether other processes leave fewer cores than `threads` of those that this process may run on."""
    return load > len(usable_cpus()) - threads + 0.1


def _others_s() -> float | None:
    """Seconds of work of this process's cores, without what it and its children that have ended have done."""
    names = {f"cpu{number}" for number in usable_cpus()}
    try:
        rows = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
        ticks = [[int(value) for value in row[1:]] for row in rows if row and row[0] in names]
        total = sum(each[column] for each in ticks for column in BUSY) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
    if not ticks:
        return None
    own = os.times()
    return total - own.user - own.system - own.children_user - own.children_system
