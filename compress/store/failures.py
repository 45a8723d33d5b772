"""Failures of units, kept in the store for all workers: `failed/<key>/<name>.json`, one file per attempt."""

from __future__ import annotations

import os
import secrets
import shutil
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

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
        host=os.uname().nodename,
        process=os.getpid(),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    folder = root / FOLDER / key
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / f"{attempt.time}-{secrets.token_hex(3)}.json", attempt.model_dump_json(indent=1))
    return attempt


def failed_attempts(root: Path, key: str) -> list[FailedAttempt]:
    """Return the failed attempts to make a unit, oldest first."""
    found = []
    for path in sorted((root / FOLDER / key).glob("*.json")):
        try:
            found.append(FailedAttempt.model_validate_json(path.read_text()))
        except (OSError, ValidationError):  # removed meanwhile, or damaged
            continue
    return found


def forget_failures(root: Path, key: str) -> None:
    """Remove the record of failed attempts to make a unit."""
    shutil.rmtree(root / FOLDER / key, ignore_errors=True)
