"""Status files of workers at the URL of a store."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from object_stores import in_memory

from compress.store import workers
from compress.store.jobs import Job
from compress.store.leases import entry_lease
from compress.store.remote import ORIGIN
from compress.store.remote_lease import RemoteLease
from compress.store.shared import SharedFolder
from compress.store.workers import WorkerStatus, remove_ended
from compress.utils.console import task
from compress.utils.processes import boot_id, host_name, owner_name

ENDED = 4_194_999  # above the highest number of a process


def test_time_left_follows_what_was_done_since(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, seen = [0.0], list[WorkerStatus]()
    monkeypatch.setattr(workers.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(workers._Places, "write", lambda self, status, now=False: seen.append(status))
    with workers.reporting(Job(tmp_path), "u", "k"):
        for completed in (60, 20):  # twice, under one name
            with task("work", 100, completed) as advance:
                clock[0] += 5.0
                advance(10)
    assert [(each.done, each.seconds_left) for each in seen[1:]] == [(60, None), (70, 15.0), (20, None), (30, 35.0)]


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SharedFolder:
    """An object store of which `tmp_path` is a cache."""
    folder = SharedFolder(f"{in_memory(monkeypatch)}/store")
    (tmp_path / ORIGIN).write_text(folder.url)
    return folder


HOLDERS = {
    "ended here": {"host": host_name(), "boot": boot_id(), "process": ENDED},
    "lives": {"host": host_name(), "boot": boot_id(), "process": os.getpid()},
    "elsewhere": {"host": "another", "boot": boot_id(), "process": ENDED},
    "on a machine of the same name": {"host": host_name(), "boot": "another", "process": ENDED},
    "of an earlier version": {"host": host_name(), "process": ENDED},
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_process_that_ended_on_this_machine_loses_its_lease_at_once(
    holder: str, bucket: SharedFolder, tmp_path: Path
) -> None:
    """Killed after it had published, it would hold it for ever: nobody asks for the lease of an entry that is there."""
    record = json.dumps({"token": "t", **HOLDERS[holder], "count": 3}).encode()
    for key in ("left", "claimed"):
        bucket.write(f"locks/{key}.json", record)
    free = holder == "ended here"
    lease = RemoteLease(bucket, "claimed")
    assert lease.claim() == free
    remove_ended(tmp_path)
    assert ("locks/left.json" in bucket.names("locks")) != free
    assert "locks/claimed.json" in bucket.names("locks")
    lease.release()
    assert ("locks/claimed.json" in bucket.names("locks")) != free


def test_a_lease_that_another_process_here_is_taking_over_is_left_to_it(bucket: SharedFolder, tmp_path: Path) -> None:
    bucket.write("locks/left.json", json.dumps({"token": "t", **HOLDERS["ended here"], "count": 3}).encode())
    other = entry_lease(tmp_path, "left")
    assert other.claim()
    remove_ended(tmp_path)
    assert bucket.names("locks") == ["locks/left.json"]
    other.release()
    remove_ended(tmp_path)
    assert bucket.names("locks") == [] and not list((tmp_path / "locks").glob("left*"))


def test_only_the_files_of_this_machine_are_read_to_remove_those_of_ended_processes(
    bucket: SharedFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = host_name()
    others = [f"{own}?pidns-f000000{number}" for number in range(9)]  # containers of this machine
    names = {}
    for host, process in ((own, os.getpid()), (own, ENDED), *((other, ENDED) for other in others)):
        status = WorkerStatus(host=host, process=process, unit="u", key="k", since="2026-01-01T00:00:00+00:00")
        names[host, process] = f"workers/{owner_name(host, process)}.json"
        bucket.write(names[host, process], status.model_dump_json().encode())
    read: list[str] = []
    fetch = SharedFolder.read
    monkeypatch.setattr(SharedFolder, "read", lambda folder, name: read.append(name) or fetch(folder, name))  # type: ignore[func-returns-value]
    remove_ended(tmp_path)
    assert set(read) == {names[own, os.getpid()], names[own, ENDED]}
    assert set(names.values()) - set(bucket.names("workers")) == {names[own, ENDED]}
