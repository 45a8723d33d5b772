"""What a store holds, whether it is whole, and what can go. Imports no torch.

An entry goes when nobody needs it: no living job uses it, no kept run names it, and nobody is making it. It is renamed
away first, which happens at once, and deleted then; so a job that begins meanwhile finds it whole or not at all.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from compress.store.leases import gate, in_use
from compress.store.store import MANIFEST, damage_of, entry_lock, read_manifest
from compress.utils.errors import CompressError, UsageError

KEY = re.compile("[0-9a-f]{24}")
TRASH = "trash"
BATCH = 100  # entries that are looked at while jobs that begin to use one wait
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)B?")
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([hdw])")


@dataclass(frozen=True)
class Entry:
    """An entry of a store, or what a killed run has left of one (`unfinished`).

    Attributes:
        used: Seconds since 1970 when a run last took or made it.
    """

    path: Path
    key: str
    what: str
    bytes: int
    used: float
    unfinished: bool = False


def entries(root: Path) -> list[Entry]:
    """All entries, those used last first; their files are not read.

    Raises:
        UsageError: there is no such store.
    """
    if not root.is_dir():
        raise UsageError(f"there is no store {root}; --runs names the folder that has it")
    found = [_entry(path) for path in root.iterdir() if KEY.fullmatch(path.name)]
    if (root / "partial").is_dir():
        found += [_unfinished(path) for path in (root / "partial").iterdir() if path.is_dir()]
    return sorted(found, key=lambda entry: (-entry.used, entry.key))


def check(root: Path) -> Iterator[str]:
    """Read every file of every entry, and say what is not as it was written."""
    for entry in entries(root):
        if not entry.unfinished and (damage := damage_of(entry.path)):
            yield f"{entry.path} is damaged ({damage}); a run that needs it makes it again"


def named_by_runs(runs: Path, newest: int | None = None) -> set[str]:
    """Keys that runs have used, as their `log.jsonl` tells; of each recipe the `newest`, or all."""
    named: set[str] = set()
    for recipe in sorted(path for path in runs.iterdir() if path.is_dir() and path.name != "store"):
        logs = sorted(recipe.glob("*/log.jsonl"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for log in logs[:newest]:
            named |= set(re.findall(r'"([0-9a-f]{24})"', log.read_text(errors="replace")))
    return named


def clean(
    runs: Path,
    keep_runs: int | None = None,
    older_than: float | None = None,
    max_size: int | None = None,
    *,
    dry_run: bool = False,
) -> list[Entry]:
    """Delete entries, and return them. Every condition that is given must hold of an entry that goes.

    Args:
        runs: Folder of the runs and of their store.
        keep_runs: Entries that the so many newest runs of each recipe have used stay.
        older_than: Seconds for which an entry has not been used.
        max_size: Bytes that the store may have: what was not used for longest goes first, until it has no more.
        dry_run: Only say which would go.

    Raises:
        UsageError: there is no such store, or no condition.
    """
    root = runs / "store"
    if keep_runs is None and older_than is None and max_size is None:
        raise UsageError("say what may go: --keep-runs, --older-than or --max-size")
    there = entries(root)
    named = named_by_runs(runs, keep_runs) if keep_runs else set()
    left, now, gone = sum(entry.bytes for entry in there), time.time(), list[Entry]()
    for start in range(0, len(there), BATCH):
        with gate(root):
            kept = in_use(root) | named
            for entry in there[::-1][start : start + BATCH]:
                large = max_size is None or left > max_size
                old = older_than is None or now - entry.used >= older_than
                if large and old and entry.key not in kept and (dry_run or _take_away(root, entry)):
                    gone.append(entry)
                    left -= entry.bytes
    shutil.rmtree(root / TRASH, ignore_errors=True)
    return gone


def parse_size(text: str) -> int:
    """Bytes of `500MB` or `20 GB`, in powers of ten.

    Raises:
        UsageError: it is no size.
    """
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise UsageError(f"--max-size takes a size such as 500MB or 20GB, not {text!r}")
    return int(float(found[1]) * 10 ** (3 * " kMGT".index(found[2] or " ")))


def parse_age(text: str) -> float:
    """Seconds of `12h`, `30d` or `2w`.

    Raises:
        UsageError: it is no time.
    """
    found = _AGE.fullmatch(text.strip())
    if not found:
        raise UsageError(f"--older-than takes a time such as 12h, 30d or 2w, not {text!r}")
    return float(found[1]) * {"h": 3600, "d": 86400, "w": 7 * 86400}[found[2]]


def _take_away(root: Path, entry: Entry) -> bool:
    """Rename an entry away, unless somebody is making it."""
    lock = entry_lock(root, entry.key)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    try:
        target = root / TRASH / ("unfinished" if entry.unfinished else "entries")
        target.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target / entry.key, ignore_errors=True)
        with suppress(FileNotFoundError):  # it was made meanwhile, or is gone already
            entry.path.replace(target / entry.key)
            return True
        return False
    except OSError as error:
        raise CompressError(f"{entry.path} cannot be removed: {error.strerror}") from error
    finally:
        lock.release()


def _entry(path: Path) -> Entry:
    told = read_manifest(path)
    if told is None:
        return Entry(path, path.name, "damaged", _bytes(path), path.stat().st_mtime)
    size = sum(file["bytes"] for file in told["files"].values())
    return Entry(path, path.name, told["what"], size, (path / MANIFEST).stat().st_mtime)


def _unfinished(path: Path) -> Entry:
    times = [file.stat().st_mtime for file in (path, *path.rglob("*"))]
    return Entry(path, path.name, "unfinished", _bytes(path), max(times), unfinished=True)


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def as_records(found: list[Entry], named: set[str]) -> list[dict[str, object]]:
    """Entries as plain data: `{key, what, bytes, used, unfinished, named_by_a_run}`."""
    return [
        {
            "key": entry.key,
            "what": entry.what,
            "bytes": entry.bytes,
            "used": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.used)),
            "unfinished": entry.unfinished,
            "named_by_a_run": entry.key in named,
        }
        for entry in found
    ]
