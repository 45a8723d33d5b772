"""List, check and clean a store on an object store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from compress.store.jobs import DAY_S, keys_in_use
from compress.store.leases import FOLDER as LOCKS
from compress.store.leases import gate
from compress.store.manifest import MANIFEST
from compress.store.origin import shared_runs
from compress.store.remote import Remote
from compress.store.stored_entry import KEY, Conditions, Entry, keys_in_log, keys_of_newest
from compress.store.workers import FOLDER as WORKERS


def remote_entries(remote: Remote, root: Path) -> list[Entry]:
    """List all entries, most recently made first."""
    rows, now = [], time.time()
    for name, (_, changed) in remote.folder.objects().items():
        key, _, file = name.partition("/")
        if file != MANIFEST:
            continue
        manifest = remote.manifest(key)
        size = sum(file.bytes for file in manifest.files.values()) if manifest else 0
        made = now if changed is None else changed  # what has no time is not old
        rows.append(Entry(root / key, key, manifest.what if manifest else "damaged", size, made))
    return sorted(rows, key=lambda entry: (-entry.used, entry.key))


def check_remote(remote: Remote) -> Iterator[str]:
    """Read every file of every entry, and yield a line per damaged entry."""
    for key in sorted(remote.all_keys()):
        if (damage := remote.damage(key)) and remote.has(key):  # not deleted meanwhile
            yield f"{remote.folder.url}/{key} is damaged ({damage}); the next run without a copy of it rebuilds it"


def keys_named_there(runs: Path, newest: int | None = None) -> set[str]:
    """Return the keys in the `log.jsonl` of runs at a URL: of the `newest` finished runs of each recipe, or of all.

    Runs that did not finish have only the mark with which they took their name, which holds no keys.
    """
    shared = shared_runs(runs)
    if shared is None:
        return set()
    recipes: dict[str, list[str]] = {}
    for name in shared.names():
        if name.endswith("/log.jsonl") and not name.startswith("store/"):
            recipes.setdefault(name.split("/")[0], []).append(name)
    keys = set[str]()
    for names in recipes.values():
        texts = ((shared.read(name) or b"").decode(errors="replace") for name in sorted(names, reverse=True))
        keys |= keys_of_newest(((text, bool(keys_in_log(text))) for text in texts), newest)
    return keys


def clean_remote(
    remote: Remote,
    runs: Path,
    keep_runs: int | None,
    conditions: Conditions,
    *,
    dry_run: bool,
) -> list[Entry]:
    """Delete the entries that meet all conditions, oldest first; see `gc.clean`.

    Those that are being made, and those that jobs of this machine use, stay. A process elsewhere that is reading one
    finds it absent and makes it again. What killed processes left for more than a day goes too.
    """
    root = runs / "store"
    listed = remote_entries(remote, root)
    with gate(root):
        kept = keys_in_use(root)
    kept |= keys_named_there(runs, keep_runs) if keep_runs else set()
    left, deleted = sum(entry.bytes for entry in listed), list[Entry]()
    for entry in listed[::-1]:
        if conditions.hold(entry, left) and entry.key not in kept and (dry_run or _delete(remote, entry.key)):
            deleted.append(entry)
            left -= entry.bytes
    if not dry_run:
        _delete_leftovers(remote)
    return deleted


def _delete(remote: Remote, key: str) -> bool:
    """Delete an entry, unless a process is making or uploading it."""
    lease = remote.lease(key)
    if not lease.claim():
        return False
    try:
        remote.delete(key)
    finally:
        lease.release()
    return True


def _delete_leftovers(remote: Remote) -> None:
    """Delete what has not changed for a day and is of no entry: leases, status, files of uploads that were killed."""
    objects, now = remote.folder.objects(), time.time()
    whole = {name.partition("/")[0] for name in objects if name.endswith(f"/{MANIFEST}")}
    for name, (_, changed) in objects.items():
        folder = name.partition("/")[0]
        unowned = folder in (LOCKS, WORKERS) or (KEY.fullmatch(folder) and folder not in whole)
        if unowned and changed is not None and now - changed > DAY_S:
            remote.folder.delete(name)
