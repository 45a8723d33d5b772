"""Contents of listed shards, kept so that plans and workers need not read shards that have been read before.

They are kept beside the digests of files, and where the store is at a URL also there, for workers on other machines;
none of shards that may change without being listed differently, as only their size is known.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from compress.data.left_out import LeftOut
from compress.data.remote_shards import list_remote
from compress.data.source import Contents
from compress.recipe.data import FileData
from compress.store.remote import Remote
from compress.utils.hashing import key_of
from compress.utils.json_cache import load_cache, save_cache

VERSION = 3  # raised when the same shards are read differently
SECTION = "shards"  # of the file that caches digests
FOLDER = "contents"  # of a store at a URL
CONSEQUENCE = "shards are read again"
UNRELATED = frozenset(
    (
        *("path", "views", "workers", "templates", "prompts"),
        *("resolution", "max_pixels", "broken", "images", "order", "cache_gb"),
        *("test", "validation", "labeled", "held_out"),
    )
)
"""Settings that change no contents: where the shards are, and what is made of their images later."""


def contents_id(settings: FileData) -> str:
    """Identify shards that are listed at a URL or in a manifest, and how they are read, without opening any."""
    shards = list_remote(settings.path, settings.shard_endings).identity
    return key_of(version=VERSION, shards=shards, settings=settings.model_dump(mode="json", exclude=set(UNRELATED)))


def recall(settings: FileData, cache: Path | None) -> Contents | None:
    """Return the contents of listed shards that have been read before, or None."""
    if not _are_certain(settings):
        return None
    name = contents_id(settings)
    if (found := load_cache(cache, SECTION, CONSEQUENCE).get(name)) is not None:
        return _parsed(found)
    remote = _remote(cache)
    text = remote.folder.read(f"{FOLDER}/{name}.json") if remote else None
    return _parsed(json.loads(text)) if text else None


def keep(settings: FileData, cache: Path | None, contents: Contents) -> None:
    """Keep the contents of listed shards for `recall`."""
    if not _are_certain(settings):
        return
    name, record = contents_id(settings), asdict(contents)
    save_cache(cache, SECTION, {name: record})
    if remote := _remote(cache):
        remote.folder.write(f"{FOLDER}/{name}.json", json.dumps(record).encode())


def _are_certain(settings: FileData) -> bool:
    return not list_remote(settings.path, settings.shard_endings).unversioned


def _remote(cache: Path | None) -> Remote | None:
    return Remote.of(cache.parent) if cache else None


def _parsed(record: dict[str, Any]) -> Contents:
    lists = {name: tuple(value) for name, value in record.items() if isinstance(value, list)}
    left_out = tuple(LeftOut(**row) for row in record["left_out"])
    counts = {part: tuple(own) for part, own in (record["part_counts"] or {}).items()} or None
    return Contents(**{**record, **lists, "left_out": left_out, "part_counts": counts})
