from __future__ import annotations

import os
from pathlib import Path

import pytest

from compress.measurement import load

STAT = """\
cpu  88888 0 88888 999999 7 0 0 55 0 0
cpu0 {user} 0 100 999999 7 0 0 55 0 0
cpu1 44444 0 {elsewhere} 999999 7 0 0 55 0 0
cpu10 100 0 {system} 999999 7 0 0 55 0 0
intr 5
"""


def test_other_load_is_the_work_on_our_cores_without_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, hertz = [0.0], os.sysconf("SC_CLK_TCK")
    stat = {"user": 1000 * hertz, "system": 500 * hertz, "elsewhere": 0}
    monkeypatch.setattr(load, "usable_cpus", lambda: {0, 10})
    monkeypatch.setattr(Path, "read_text", lambda path: STAT.format(**stat))
    monkeypatch.setattr(load.time, "perf_counter", lambda: clock[0])
    own = [1.0, 0.0, 2.0, 0.0]
    monkeypatch.setattr(load.os, "times", lambda: os.times_result((*own, 0.0)))

    def work() -> str:
        stat["user"] += 20 * hertz
        stat["system"] += 10 * hertz
        stat["elsewhere"] += 999 * hertz  # on a core that this process may not use
        own[2] += 18.0  # a child that has ended
        clock[0] += 10.0
        return "done"

    assert load.with_other_load(work) == ("done", pytest.approx(1.2))


def test_other_load_is_unknown_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(path: Path) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", absent)
    assert load.with_other_load(lambda: 3) == (3, None)


def test_a_machine_is_crowded_if_others_leave_fewer_cores_than_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "usable_cpus", lambda: {0, 1, 6, 7})
    assert not load.is_crowded(2.0, threads=2) and load.is_crowded(2.5, threads=2)
