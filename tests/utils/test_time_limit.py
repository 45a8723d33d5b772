from __future__ import annotations

import signal
import threading
import time

import pytest

from compress.utils import boundaries
from compress.utils.boundaries import Boundary, boundary
from compress.utils.errors import CompressError
from compress.utils.time_limit import shortened, time_limit


def spin(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def test_work_that_takes_too_long_is_stopped() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TimeoutError, match="not done after 0 s"), time_limit(0.1):
        spin(5)
    assert signal.getsignal(signal.SIGALRM) is before and signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_work_in_time_is_left_alone() -> None:
    with time_limit(0.2):
        spin(0.01)
    spin(0.3)


def test_waiting_does_not_count() -> None:
    """A machine that is busy with other work, or was suspended, takes longer for the same."""
    with time_limit(0.2):
        time.sleep(0.4)
        spin(0.05)


def test_a_shortened_limit_leaves_some_time_to_spare_outside() -> None:
    with pytest.raises(TimeoutError), shortened(0.25), time_limit(0.4):
        spin(0.25)
    with time_limit(0.4):
        spin(0.25)


def test_a_limit_that_is_set_already_stays() -> None:
    with pytest.raises(TimeoutError, match="not done after 0 s"), time_limit(0.1), time_limit(60):
        spin(5)


def test_other_threads_have_no_limit() -> None:
    ended: list[bool] = []

    def work() -> None:
        with time_limit(0.05):
            spin(0.2)
        ended.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ended == [True]


def test_a_library_that_does_not_end_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(boundaries.BOUNDARIES, "torch-pruning", Boundary("pruned", "choose another", longest_s=0.1))
    with pytest.raises(CompressError) as error, boundary("torch-pruning", "Net"):
        spin(5)
    assert str(error.value) == "Net cannot be pruned: not done after 0 s; choose another"
