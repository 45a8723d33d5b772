"""Failures of units, kept in the store for all workers: `failed/<key>/<name>.json`, one file per attempt.

At a URL they are objects there, which workers on all machines see.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from compress.store.remote import Remote
from compress.utils.atomic import write_atomic

FOLDER = "failed"


class FailedAttempt(BaseModel):
    """One attempt to make a unit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    unit: str
    error: str  # one line
    final: bool  # whether another attempt would fail in the same way: the recipe or the machine's set-up is wrong
    trace: str  # traceback, for whoever looks into it
    host: str
    process: int
    time: str  # UTC


def record_failure(root: Path, key: str, unit: str, error: str, trace: str, *, final: bool) -> FailedAttempt:
    """Write down that this process could not make a unit."""
    attempt = FailedAttempt(
        unit=unit,
        error=error,
        final=final,
        trace=trace,
        host=socket.gethostname(),
        process=os.getpid(),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    name, text = f"{FOLDER}/{key}/{time.time_ns()}-{secrets.token_hex(3)}.json", attempt.model_dump_json(indent=1)
    if remote := Remote.of(root):
        remote.folder.write(name, text.encode())
        return attempt
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    write_atomic(root / name, text)
    return attempt


def failed_attempts(root: Path, key: str) -> list[FailedAttempt]:
    """Return the failed attempts to make a unit, oldest first."""
    if remote := Remote.of(root):
        texts = [remote.folder.read(name) for name in remote.folder.names(f"{FOLDER}/{key}")]
    else:
        texts = [_read(path) for path in sorted((root / FOLDER / key).glob("*.json"))]
    found = []
    for text in texts:
        with suppress(ValidationError):  # removed meanwhile, or damaged
            found.append(FailedAttempt.model_validate_json(text or b""))
    return found


def forget_failures(root: Path, key: str) -> None:
    """Remove the record of failed attempts to make a unit."""
    shutil.rmtree(root / FOLDER / key, ignore_errors=True)
    if remote := Remote.of(root):
        for name in remote.folder.names(f"{FOLDER}/{key}"):
            remote.folder.delete(name)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
