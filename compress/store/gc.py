"""List, check and clean a store. Imports no torch.

An entry may be deleted if no running job uses it, no kept run names it, and no process is making it. It is first
renamed away, which is atomic, and then deleted: a job that starts meanwhile finds it whole or not at all.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from compress.results.read import RESULTS
from compress.store.jobs import keys_in_use
from compress.store.leases import entry_lease, gate
from compress.store.manifest import MANIFEST, find_damage, read_manifest
from compress.store.origin import shared_runs
from compress.store.remote import Remote
from compress.store.remote_gc import check_remote, clean_remote, keys_named_there, remote_entries
from compress.store.stored_entry import KEY, Conditions, Entry, keys_of_newest
from compress.store.work_folders import FOLDER, key_of_folder
from compress.utils.errors import CompressError, UsageError

TRASH = "trash"
BATCH = 100  # entries that are examined while jobs that begin to use one have to wait


def entries(root: Path) -> list[Entry]:
    """List all entries, most recently used first, without reading their files; no store is a `UsageError`."""
    _require(root)
    if remote := Remote.of(root):
        return remote_entries(remote, root)
    return _local_entries(root)


def _require(root: Path) -> None:
    if not root.is_dir():
        raise UsageError(f"no store in {root.parent}; name the folder of your runs with --runs")


def _local_entries(root: Path) -> list[Entry]:
    listed = [_entry(path) for path in root.iterdir() if KEY.fullmatch(path.name)]
    if (root / FOLDER).is_dir():
        listed += [_unfinished(path) for path in (root / FOLDER).iterdir() if path.is_dir()]
    return sorted(filter(None, listed), key=lambda entry: (-entry.used, entry.key))


def check(root: Path) -> Iterator[str]:
    """Read every file of every entry, and yield a line per damaged entry."""
    _require(root)
    if remote := Remote.of(root):
        yield from check_remote(remote)
    for entry in _local_entries(root):
        # What is gone by now was deleted while it was read, which is not damage.
        if not entry.unfinished and (damage := find_damage(entry.path)) and entry.path.is_dir():
            yield f"{entry.path} is damaged ({damage}); the next run that needs it rebuilds it"


def keys_used_by_runs(runs: Path, newest: int | None = None) -> set[str]:
    """Return the keys in the `log.jsonl` of runs: of the `newest` finished runs of each recipe, or of all."""
    keys = keys_named_there(runs, newest) if shared_runs(runs) else set[str]()
    for recipe in sorted(path for path in runs.iterdir() if path.is_dir() and path.name != "store"):
        logs = sorted(recipe.glob("*/log.jsonl"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        keys |= keys_of_newest(((_text(log), (log.parent / RESULTS).is_file()) for log in logs), newest)
    return keys


def _text(log: Path) -> str:
    return log.read_text(errors="replace")


def clean(
    runs: Path,
    keep_runs: int | None = None,
    older_than: timedelta | None = None,
    max_size: int | None = None,
    *,
    dry_run: bool = False,
) -> list[Entry]:
    """Delete the entries that meet all given conditions, and return them.

    Args:
        keep_runs: Keep what this many newest runs of each recipe used.
        older_than: Delete only what was not used for this long.
        max_size: Delete, least recently used first, only until the store has at most this many bytes.

    Raises:
        UsageError: there is no such store, or no condition.
    """
    root = runs / "store"
    if keep_runs is None and older_than is None and max_size is None:
        raise UsageError("nothing to clean by: give --keep-runs, --older-than or --max-size")
    _require(root)
    remote, listed = Remote.of(root), _local_entries(root)
    conditions = Conditions(older_than, max_size)
    there = clean_remote(remote, runs, keep_runs, conditions, dry_run=dry_run) if remote else []
    named = keys_used_by_runs(runs, keep_runs) if keep_runs else set()
    left, deleted = sum(entry.bytes for entry in listed), list[Entry]()
    for start in range(0, len(listed), BATCH):
        with gate(root):
            kept = keys_in_use(root) | named
            for entry in listed[::-1][start : start + BATCH]:
                wanted = conditions.hold(entry, left) and entry.key not in kept
                if wanted and (dry_run or _move_to_trash(root, entry)):
                    deleted.append(entry)
                    left -= entry.bytes
    shutil.rmtree(root / TRASH, ignore_errors=True)
    return [*there, *(entry for entry in deleted if entry.key not in {other.key for other in there})]


def _move_to_trash(root: Path, entry: Entry) -> bool:
    """Rename an entry away, unless a process is making it."""
    lease = entry_lease(root, entry.key)
    if not lease.claim():
        return False
    try:
        target = root / TRASH / ("unfinished" if entry.unfinished else "entries")
        target.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target / entry.path.name, ignore_errors=True)
        with suppress(FileNotFoundError):  # finished meanwhile, or deleted already
            entry.path.replace(target / entry.path.name)
            return True
        return False
    except OSError as error:
        raise CompressError(f"{entry.path} cannot be removed: {error.strerror}") from error
    finally:
        lease.release()


def _entry(path: Path) -> Entry | None:
    manifest = read_manifest(path)
    try:
        if manifest is None:
            return Entry(path, path.name, "damaged", _bytes(path), path.stat().st_mtime)
        size = sum(file.bytes for file in manifest.files.values())
        return Entry(path, path.name, manifest.what, size, (path / MANIFEST).stat().st_mtime)
    except FileNotFoundError:  # deleted meanwhile
        return None


def _unfinished(path: Path) -> Entry | None:
    try:
        times = [file.stat().st_mtime for file in (path, *path.rglob("*"))]
        return Entry(path, key_of_folder(path), "unfinished", _bytes(path), max(times), unfinished=True)
    except FileNotFoundError:  # finished meanwhile
        return None


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
