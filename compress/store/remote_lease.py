"""Leases on object stores: an object that its holder writes again and again, created only if there is none.

Where a service has no conditional writes, or an expired lease is taken over, two may hold one for a moment. As with
other leases, that is a waste and never damage: entries are published by a conditional write of their own, and what
belongs to them is named by content.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
import weakref
from contextlib import suppress

from compress.store.leases import FOLDER, Lease, duration
from compress.store.shared import SharedFolder
from compress.utils.errors import CompressError
from compress.utils.processes import boot_id, host_name, is_alive


class RemoteLease:
    """A claim on one name, of which one process at a time is the holder; see `leases.Lease`."""

    def __init__(self, folder: SharedFolder, key: str) -> None:
        self._folder, self._name = folder, f"{FOLDER}/{key}.json"
        self._token = ""
        self._overtaken = False
        self._stop: threading.Event | None = None
        self._seen: tuple[bytes, float] | None = None

    def claim(self) -> bool:
        """Become the holder if there is none, or if the holder has ended on this machine, or hangs.

        One that hangs has given no sign of life for `duration()` seconds.
        """
        content = self._folder.read(self._name)
        if content is not None and not self._is_expired(content):
            return False
        self._token = secrets.token_hex(16)
        if content is not None:
            self._folder.write(self._name, self._record(0))
        elif not self._folder.create(self._name, self._record(0)):
            return False
        if _token(self._folder.read(self._name)) != self._token:  # another one took it over at the same moment
            return False
        self._overtaken = False
        self._stop = threading.Event()
        stop, lease = self._stop, weakref.ref(self)
        threading.Thread(target=_renew, args=(lease, stop, duration() / 6), daemon=True).start()
        return True

    @property
    def overtaken(self) -> bool:
        """Whether another process has become the holder since; one that could not renew it in time may still be it."""
        if self._stop is None or self._overtaken:
            return True
        record = _record(self._folder.read(self._name))
        return bool(record) and record["token"] != self._token

    @property
    def holder(self) -> tuple[str, int] | None:
        """Host and process of the holder."""
        record = _record(self._folder.read(self._name))
        return (str(record["host"]), int(str(record["process"]))) if record else None

    def release(self) -> None:
        """Give the lease up; one that is lost already stays with its new holder."""
        if self._stop:
            self._stop.set()
            self._stop = None
            with suppress(CompressError):
                if _token(self._folder.read(self._name)) == self._token:
                    self._folder.delete(self._name)

    @property
    def is_left(self) -> bool:
        """Whether its holder was a process of this machine and has ended."""
        return _has_ended(self._folder.read(self._name))

    def renew(self, count: int) -> None:
        """Write a sign of life, unless another process has taken the lease over."""
        with suppress(CompressError):  # no answer
            if _token(self._folder.read(self._name)) != self._token:
                self._overtaken = True
            elif self._stop:
                self._folder.write(self._name, self._record(count))

    def _record(self, count: int) -> bytes:
        who = {"host": host_name(), "boot": boot_id(), "process": os.getpid()}
        return json.dumps({"token": self._token, **who, "count": count}).encode()

    def _is_expired(self, content: bytes) -> bool:
        if _has_ended(content):
            return True
        now = time.monotonic()
        if self._seen is None or self._seen[0] != content:
            self._seen = (content, now)
        return now - self._seen[1] > duration()


class BothLeases:
    """A lease among the processes that share a local cache, and with it one on the object store."""

    def __init__(self, local: Lease, remote: RemoteLease) -> None:
        self._local, self._remote = local, remote

    def claim(self) -> bool:
        """Become the holder of both."""
        if not self._local.claim():
            return False
        claimed = False
        try:
            claimed = self._remote.claim()
        finally:
            if not claimed:
                self._local.release()
        return claimed

    @property
    def overtaken(self) -> bool:
        """Whether another process has become the holder of one of them since."""
        return self._local.overtaken or self._remote.overtaken

    @property
    def holder(self) -> tuple[str, int] | None:
        """Host and process of the holder."""
        return self._local.holder or self._remote.holder

    def release(self) -> None:
        """Give both up."""
        self._remote.release()
        self._local.release()


AnyLease = Lease | BothLeases


def _renew(lease: weakref.ref[RemoteLease], stop: threading.Event, pause: float) -> None:
    """Renew a lease until it is given up; a lease that nobody refers to any longer is not."""
    count = 0
    while not stop.wait(pause) and (held := lease()):
        count += 1
        held.renew(count)
        del held


def _record(content: bytes | None) -> dict[str, object]:
    with suppress(ValueError, KeyError):
        record = json.loads(content or b"{}")
        if isinstance(record, dict) and "token" in record and "host" in record and isinstance(record["process"], int):
            return record
    return {}


def _has_ended(content: bytes | None) -> bool:
    """Return whether the holder that a record names was a process of this machine and has ended."""
    record, boot = _record(content), boot_id()
    if not boot or (record.get("boot"), record.get("host")) != (boot, host_name()):  # machines may share a name
        return False
    return not is_alive(int(str(record["process"])))


def _token(content: bytes | None) -> str:
    return str(_record(content).get("token", ""))
