"""Status of the processes that make units of a store, for `compress-model status`.

It is among the temporary files of the process's job, which are removed if it is killed, and at a URL in
`workers/<host>.<pid>.json`, which the next job of the same machine removes.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from compress.store.jobs import FOLDER as RUNNING
from compress.store.jobs import Job
from compress.store.leases import FOLDER as LOCKS
from compress.store.leases import entry_lease
from compress.store.remote import Remote
from compress.store.remote_lease import BothLeases
from compress.store.shared import SharedFolder
from compress.utils.atomic import write_atomic
from compress.utils.console import watched
from compress.utils.errors import CompressError
from compress.utils.processes import host_name, is_alive, owner_name

FOLDER = "workers"  # at a URL
STATUS = "status.json"
EVERY_S, REMOTE_EVERY_S = 2.0, 20.0  # between two writes of progress


class WorkerStatus(BaseModel):
    """What a process is making."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str  # of `host_name`
    process: int
    unit: str
    key: str
    since: str  # UTC
    task: str = ""
    done: int = 0
    total: int = 0
    seconds_left: float | None = None  # of the task
    updated: str = ""  # UTC


@contextmanager
def reporting(job: Job | None, unit: str, key: str) -> Iterator[None]:
    """Let others see in this block that this process makes a unit, and how far it is; without a job, do nothing."""
    if job is None:
        yield
        return
    started = WorkerStatus(host=host_name(), process=os.getpid(), unit=unit, key=key, since=_now(), updated=_now())
    places = _Places(job, f"{FOLDER}/{owner_name(started.host, started.process)}.json")
    began, before, last = time.monotonic(), 0, ("", 0)

    def advance(description: str, done: int, total: int) -> None:
        nonlocal began, before, last
        if description != last[0] or done < last[1]:  # another task, of which `done` were done before
            began, before = time.monotonic(), done
        last = description, done
        left = (time.monotonic() - began) / (done - before) * (total - done) if done > before else None
        progress = {"task": description, "done": done, "total": total, "seconds_left": left, "updated": _now()}
        places.write(started.model_copy(update=progress))

    places.write(started, now=True)
    try:
        with watched(advance):
            yield
    finally:
        places.remove()


def statuses(root: Path) -> list[WorkerStatus]:
    """Return what processes are making, those on this machine that have ended left out."""
    texts: list[bytes | None] = []
    for path in sorted((root / RUNNING).glob(f"*.tmp/{STATUS}")):
        with suppress(OSError):  # removed meanwhile
            texts.append(path.read_bytes())
    if remote := Remote.of(root):
        texts += [remote.folder.read(name) for name in remote.folder.names(FOLDER)]
    found = {(each.host, each.process): each for text in texts if (each := _parse(text)) and not _has_ended(each)}
    return list(found.values())


def remove_ended(root: Path) -> None:
    """Remove what killed processes of this machine have left at the URL of a store: status and leases."""
    remote = Remote.of(root)
    if remote is None:
        return
    own = f"{FOLDER}/{owner_name(host_name(), 0).removesuffix('0')}"
    for name in remote.folder.names(FOLDER):
        if not name.startswith(own):  # each look is a call
            continue
        status = _parse(remote.folder.read(name))
        if status and _has_ended(status):
            remote.folder.delete(name)
    for name in remote.folder.names(LOCKS):
        key = Path(name).stem
        lease = remote.lease(key)
        both = BothLeases(entry_lease(root, key), lease)  # the local one first: others here may be taking it over
        if lease.is_left and both.claim():
            both.release()


def _parse(text: bytes | None) -> WorkerStatus | None:
    with suppress(ValidationError):  # damaged
        return WorkerStatus.model_validate_json(text or b"")
    return None


class _Places:
    """Where the status of this process is written: here, and less often on the object store."""

    def __init__(self, job: Job, name: str) -> None:
        self._path, self._name = job.folder() / STATUS, name
        remote = Remote.of(job.root)
        self._shared = SharedFolder(remote.folder.url, attempts=1) if remote else None
        self._writer: threading.Thread | None = None  # the work does not wait for the object store
        self._written = self._shared_written = -REMOTE_EVERY_S

    def write(self, status: WorkerStatus, *, now: bool = False) -> None:
        clock, text = time.monotonic(), status.model_dump_json()
        if now or clock - self._written >= EVERY_S:
            self._written = clock
            with suppress(OSError):  # a full disk or a read-only store; the work itself reports it
                write_atomic(self._path, text)
        if self._shared and (now or clock - self._shared_written >= REMOTE_EVERY_S):
            self._shared_written = clock
            if self._writer is None or not self._writer.is_alive():
                self._writer = threading.Thread(target=_write, args=(self._shared, self._name, text), daemon=True)
                self._writer.start()

    def remove(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        if self._shared and self._writer:
            self._writer.join(REMOTE_EVERY_S)  # so that the file is not written again
            with suppress(CompressError):
                self._shared.delete(self._name)


def _write(shared: SharedFolder, name: str, text: str) -> None:
    with suppress(CompressError):
        shared.write(name, text.encode())


def _has_ended(status: WorkerStatus) -> bool:
    return status.host == host_name() and not is_alive(status.process)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
