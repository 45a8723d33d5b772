"""List, check and clean a store on an object store."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from compress.store.origin import shared_runs
from compress.store.remote import Remote
from compress.store.stored_entry import Entry


def remote_entries(remote: Remote, root: Path) -> list[Entry]:
    """List all entries, most recently made first."""
    rows = []
    for key, manifest, made in remote.entries():
        size = sum(file.bytes for file in manifest.files.values()) if manifest else 0
        rows.append(Entry(root / key, key, manifest.what if manifest else "damaged", size, made))
    return sorted(rows, key=lambda entry: (-entry.used, entry.key))


def check_remote(remote: Remote) -> Iterator[str]:
    """Read every file of every entry, and yield a line per damaged entry."""
    for key in remote.all_keys():
        if damage := remote.damage(key):
            yield f"{remote.folder.url}/{key} is damaged ({damage}); the next run that needs it rebuilds it"


def keys_named_there(runs: Path, newest: int | None = None) -> set[str]:
    """Return the keys in the `log.jsonl` of runs at a URL: of the `newest` runs of each recipe, or of all."""
    shared = shared_runs(runs)
    recipes: dict[str, list[str]] = {}
    for name in shared.names() if shared else ():
        if name.endswith("/log.jsonl") and not name.startswith("store/"):
            recipes.setdefault(name.split("/")[0], []).append(name)
    logs = [log for names in recipes.values() for log in sorted(names, reverse=True)[:newest]]
    texts = [(shared.read(log) or b"").decode(errors="replace") for log in logs] if shared else []
    return {key for text in texts for key in re.findall(r'"([0-9a-f]{24})"', text)}


def clean_remote(
    remote: Remote,
    runs: Path,
    keep_runs: int | None,
    older_than: timedelta | None,
    max_size: int | None,
    *,
    dry_run: bool,
) -> list[Entry]:
    """Delete the entries that meet all conditions, oldest first, except those that are being made; see `gc.clean`.

    A process elsewhere that is reading one of them finds it absent and makes it again.
    """
    listed = remote_entries(remote, runs / "store")
    named = keys_named_there(runs, keep_runs) if keep_runs else set()
    left, now, deleted = sum(entry.bytes for entry in listed), time.time(), list[Entry]()
    for entry in listed[::-1]:
        large = max_size is None or left > max_size
        old = older_than is None or now - entry.used >= older_than.total_seconds()
        if not (large and old) or entry.key in named or remote.lease(entry.key).holder:
            continue
        if not dry_run:
            remote.delete(entry.key)
        deleted.append(entry)
        left -= entry.bytes
    return deleted
