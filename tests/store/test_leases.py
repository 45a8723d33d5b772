"""Leases: one maker of an entry at a time, on this machine and on others, whatever becomes of it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import SoftFileLease
from support import environment

from compress.store import work_folders
from compress.store.failures import failed_attempts, forget_failures, record_failure
from compress.store.gc import entries
from compress.store.jobs import DAY_S, keys_in_use
from compress.store.leases import DEFAULT_S, VARIABLE, Lease, duration, entry_lease, gate
from compress.store.store import Store
from compress.store.work_folders import open_folder, work_folder
from compress.utils.errors import CompressError, UsageError

KEY = "0" * 24
SLOW_MAKER = """\
import sys, time
from pathlib import Path
from compress.store.store import Store

def make(folder):
    (folder / "half").write_text("half")
    (folder / "ready").touch()
    while not Path(sys.argv[1], "go").exists():
        time.sleep(0.02)
    (folder / "a.txt").write_text("slow")

print(Store(Path(sys.argv[1])).offer("0" * 24, "it", make))
"""


@pytest.fixture(autouse=True)
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr("compress.store.store.say", lines.append)
    return lines


def make(folder: Path) -> None:
    (folder / "a.txt").write_text("quick")


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def start_maker(root: Path) -> subprocess.Popen[str]:
    """Start a process that makes the entry and waits in the middle."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_MAKER, str(root)], stdout=subprocess.PIPE, text=True, env=environment()
    )
    wait_for(lambda: list((root / "partial").glob("*/ready")))
    return process


def held_elsewhere(path: Path, seconds: float = 1.0) -> None:
    """Write the lease of a process on another machine."""
    lease = SoftFileLease(path, lease_duration=seconds, thread_local=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    lease.acquire()
    text = path.read_text().replace(f"host={os.uname().nodename}", "host=elsewhere").replace("pid=", "pid=1")
    lease.release()
    path.write_text(text)


def test_a_lease_has_one_holder(tmp_path: Path) -> None:
    one, two = entry_lease(tmp_path, "k"), entry_lease(tmp_path, "k")
    assert one.claim() and not two.claim() and not one.overtaken
    assert two.holder == one.holder and one.holder and one.holder[1] == os.getpid()
    one.release()
    assert two.claim() and one.overtaken and not two.overtaken
    two.release()
    assert two.holder is None and not list((tmp_path / "locks").iterdir())


def test_the_lease_of_a_killed_process_is_free_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "600")
    process = start_maker(tmp_path)
    process.kill()
    process.wait()
    clock = time.monotonic()

    def resume(folder: Path) -> None:
        assert (folder / "half").read_text() == "half"
        make(folder)

    folder, stored = Store(tmp_path).get(KEY, "it", resume)
    assert not stored and time.monotonic() - clock < 5 and (folder / "a.txt").read_text() == "quick"
    assert not list((tmp_path / "partial").iterdir())


def test_a_lease_elsewhere_is_free_when_it_gave_no_sign_of_life_for_its_duration(tmp_path: Path) -> None:
    held_elsewhere(tmp_path / "locks" / f"{KEY}.lease")
    lease, clock = entry_lease(tmp_path, KEY), time.monotonic()
    assert not lease.claim() and lease.holder and lease.holder[0] == "elsewhere"
    wait_for(lease.claim)
    assert time.monotonic() - clock > 0.9


def test_a_stopped_maker_is_overtaken_and_publishes_nothing(tmp_path: Path, said: list[str]) -> None:
    process = start_maker(tmp_path)
    process.send_signal(signal.SIGSTOP)
    try:
        store = Store(tmp_path)
        assert store.offer(KEY, "it", make) is None
        folder, stored = store.get(KEY, "it", make)
        assert not stored and (folder / "half").read_text() == "half"  # begun with a copy of what the other had made
    finally:
        process.send_signal(signal.SIGCONT)
    assert said == ["store: another run is making it; waiting for it"]
    (tmp_path / "go").touch()
    assert process.communicate(timeout=20)[0] == "False\n" and process.returncode == 0
    assert (tmp_path / KEY / "a.txt").read_text() == "quick" and len(entries(tmp_path)) == 1
    assert not list((tmp_path / "partial").iterdir()) and not list((tmp_path / "locks").iterdir())


def test_a_maker_that_lost_its_lease_takes_the_others_entry(tmp_path: Path, said: list[str]) -> None:
    store, other = Store(tmp_path), Store(tmp_path)

    def overtaken(folder: Path) -> None:
        (tmp_path / "locks" / f"{KEY}.lease").unlink()
        assert other.offer(KEY, "it", make)
        (folder / "b.txt").write_text("not published: its folder is gone")

    folder, stored = store.get(KEY, "it", overtaken)
    assert stored and [path.name for path in sorted(folder.iterdir())] == ["a.txt", "entry.json"]
    assert said == ["store: it was taken over by another process, as this one gave no sign of life"]
    assert not list((tmp_path / "partial").iterdir())


def test_a_lease_that_cannot_be_looked_at_is_not_overtaken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = entry_lease(tmp_path, KEY)
    assert lease.claim()

    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", fails)
        assert not lease.overtaken
    lease.path.unlink()
    assert lease.overtaken


def test_a_sealed_entry_that_could_not_be_published_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = Store(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr("compress.store.store.publish", fails)
        store.get(KEY, "it", make)
    folder, stored = Store(tmp_path).get(KEY, "it", lambda folder: pytest.fail("it is made already"))
    assert not stored and (folder / "a.txt").read_text() == "quick"


def test_a_folder_that_changes_while_it_is_copied_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = work_folder(tmp_path, KEY, "there", 7)
    folder.mkdir(parents=True)
    (folder / "half").write_text("half")

    def fails(*_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "replaced meanwhile", "half")

    monkeypatch.setattr(work_folders, "copy_tree", fails)
    assert list(open_folder(tmp_path, KEY, "here", os.getpid()).iterdir()) == [] and folder.exists()


def test_a_job_on_this_machine_keeps_what_it_uses_however_long_it_slept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    job = store.job()
    assert job
    job.note(KEY)
    os.utime(job.base.with_suffix(".lease"), (0, 0))  # suspended, or a board whose clock was set
    other = Store(tmp_path).job()
    with gate(tmp_path):
        assert other and job.base.with_suffix(".lease").exists() and KEY in keys_in_use(tmp_path)
    held_elsewhere(tmp_path / "running" / "9-x.lease", DAY_S)
    os.utime(tmp_path / "running" / "9-x.lease", (0, 0))
    with gate(tmp_path):
        keys_in_use(tmp_path)
    assert not (tmp_path / "running" / "9-x.lease").exists()


def test_an_empty_lease_of_a_process_that_was_killed_meanwhile_is_removed(tmp_path: Path) -> None:
    lease = entry_lease(tmp_path, KEY)
    lease.path.parent.mkdir()
    lease.path.touch()
    assert not lease.claim()
    wait_for(lease.claim)


def test_what_ended_processes_left_is_renamed_and_the_rest_copied(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for host, process in (("here", ended.pid), ("there", 7)):
        folder = work_folder(tmp_path, f"{host}key", host, process)
        folder.mkdir(parents=True)
        (folder / "half").write_text(host)
        mine = open_folder(tmp_path, f"{host}key", "here", os.getpid())
        assert (mine / "half").read_text() == host and folder.exists() == (host == "there")
    (tmp_path / "partial" / "oldkey").mkdir()  # an earlier version's
    assert open_folder(tmp_path, "oldkey", "here", 1).is_dir() and not (tmp_path / "partial" / "oldkey").exists()
    assert work_folder(tmp_path, "k", "a?pidns-1/../b", 1).parent == tmp_path / "partial"


def test_other_durations_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = entry_lease(tmp_path, KEY)
    lease.claim()
    monkeypatch.setenv(VARIABLE, "2")
    with pytest.raises(CompressError, match=r"its holder has another COMPRESS_LEASE_S; set the same everywhere"):
        Lease(lease.path).claim()
    for text in ("0", "much", "-1", "1e9", "nan"):
        monkeypatch.setenv(VARIABLE, text)
        with pytest.raises(UsageError, match="COMPRESS_LEASE_S must be a number of seconds from 1 to 86400"):
            duration()
    monkeypatch.delenv(VARIABLE)
    assert duration() == DEFAULT_S


def test_failed_attempts_are_kept_for_all_workers(tmp_path: Path) -> None:
    assert failed_attempts(tmp_path, KEY) == []
    for number in range(3):
        record_failure(tmp_path, KEY, "it", f"reason {number}", "Traceback ...", final=number == 2)
    (tmp_path / "failed" / KEY / "0.json").write_text("{")
    failed = failed_attempts(tmp_path, KEY)
    assert sorted(each.error for each in failed) == ["reason 0", "reason 1", "reason 2"]
    assert {each.process for each in failed} == {os.getpid()} and sum(each.final for each in failed) == 1
    forget_failures(tmp_path, KEY)
    assert failed_attempts(tmp_path, KEY) == [] and not (tmp_path / "failed" / KEY).exists()
