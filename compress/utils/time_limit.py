"""A limit of time for work that may not end."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType

_share = ContextVar("share", default=1.0)
MIN_WAIT_S = 0.01  # between two looks at the clock


@contextmanager
def shortened(share: float) -> Iterator[None]:
    """Allow limits in this block only a share of their time: what keeps it has some to spare outside of the block."""
    token = _share.set(share)
    try:
        yield
    finally:
        _share.reset(token)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` in this block after some seconds; without effect outside of the main thread, or on Windows.

    The seconds are those that the thread computes: a busy machine, or one that was suspended, does not shorten them.
    The limit is kept by a signal, so one long call into compiled code is only left when it returns. Where another limit
    is set already, that one stays.
    """
    usable = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if not usable or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return
    allowed = seconds * _share.get()
    until = time.thread_time() + allowed

    def stop(number: int, frame: FrameType | None) -> None:
        left = until - time.thread_time()
        if left <= 0:
            raise TimeoutError(f"not done after {allowed:.0f} s")
        signal.setitimer(signal.ITIMER_REAL, max(left, MIN_WAIT_S))

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, allowed)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
