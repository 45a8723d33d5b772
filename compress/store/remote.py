"""Entries on object stores, of which a local folder is a cache.

    <key>/<digest>/<file>    files of an entry, below the start of the manifest's own digest
    <key>/entry.json         its manifest, written last and only if there is none
    locks/  failed/  workers/    as in a local store
    contents/                    what workers found in shards of data at URLs

An entry without its manifest is absent. Files of two makers of one entry do not meet, since the makers' manifests have
different digests or equal contents.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from compress.store.manifest import MANIFEST, FileRecord, Manifest, parse_manifest
from compress.store.remote_lease import RemoteLease
from compress.store.shared import SharedFolder
from compress.utils.console import say
from compress.utils.hashing import file_digest

ORIGIN = "origin"  # file in a local store: the URL that it is a cache of


@dataclass(frozen=True)
class Remote:
    """A store on an object store."""

    folder: SharedFolder
    damaged: set[str] = field(default_factory=set)  # entries that this process found damaged

    @classmethod
    def of(cls, root: Path) -> Remote | None:
        """Return the remote that a local store is a cache of, if any."""
        file = root / ORIGIN
        return cls(SharedFolder(file.read_text().strip())) if file.is_file() else None

    def manifest(self, key: str) -> Manifest | None:
        """Read the manifest of an entry; None if it is absent or damaged."""
        return self._read(key)[1]

    def _read(self, key: str) -> tuple[bytes | None, Manifest | None]:
        """Return the manifest of an entry, as it is stored and parsed; None where it is absent, or damaged."""
        content = self.folder.read(f"{key}/{MANIFEST}")
        return content, parse_manifest(content.decode(errors="replace"), key) if content else None

    def has(self, key: str) -> bool:
        """Return whether there is an entry."""
        return self.folder.has(f"{key}/{MANIFEST}")

    def all_keys(self) -> set[str]:
        """Return the keys of all entries."""
        return {key for name in self.folder.names() for key, _, file in [name.partition("/")] if file == MANIFEST}

    def fetch(self, key: str, folder: Path) -> bool:
        """Download an entry into an empty folder and check its digests; False if it is absent or damaged."""
        content, manifest = self._read(key)
        if content is None:
            return False
        damage = None if manifest else f"cannot read {MANIFEST}"
        for name, expected in manifest.files.items() if manifest else ():
            path, place = folder / name, f"{key}/{_place(content)}/{name}"
            if not self._download(place, path, expected):
                damage = f"{name} is missing or has changed"
                break
        (folder / MANIFEST).write_bytes(content)
        if damage and key not in self.damaged:
            say(f"store: {self.folder.url}/{key} is damaged ({damage}); rebuilding it")
            self.damaged.add(key)
        return damage is None

    def _download(self, name: str, path: Path, expected: FileRecord) -> bool:
        """Download a file, twice if it did not arrive whole."""
        for _ in range(2):
            there = self.folder.download(name, path)
            if there and path.stat().st_size == expected.bytes and file_digest(path) == expected.sha256:
                return True
        return False

    def publish(self, folder: Path, key: str) -> bool:
        """Upload a sealed entry, its manifest last. The caller has the lease, or had it.

        Returns:
            False if there is an entry of another process with other contents, which stays.
        """
        content = (folder / MANIFEST).read_bytes()
        if key in self.damaged:
            self.delete(key)
            self.damaged.discard(key)
        if there := self.folder.read(f"{key}/{MANIFEST}"):
            return there == content
        place = f"{key}/{_place(content)}"
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST):
            self.folder.upload(path, f"{place}/{path.relative_to(folder).as_posix()}")
        self.folder.create(f"{key}/{MANIFEST}", content)
        winner = self.folder.read(f"{key}/{MANIFEST}") or content
        kept = (f"{key}/{MANIFEST}", f"{key}/{_place(winner)}/")
        for name in self.folder.names(key):  # of makers that were killed or overtaken
            if not name.startswith(kept):
                self.folder.delete(name)
        return winner == content

    def lease(self, key: str) -> RemoteLease:
        """Return the lease that whoever makes an entry holds."""
        return RemoteLease(self.folder, key)

    def delete(self, key: str) -> None:
        """Delete an entry, its manifest first, so that it is there whole or not at all."""
        self.folder.delete(f"{key}/{MANIFEST}")
        for name in self.folder.names(key):
            self.folder.delete(name)

    def damage(self, key: str) -> str | None:
        """Read every file of an entry and return the first thing that is wrong with it."""
        content, manifest = self._read(key)
        if content is None or manifest is None:
            return f"cannot read {MANIFEST}"
        for name, expected in manifest.files.items():
            found = self.folder.digest(f"{key}/{_place(content)}/{name}")
            if found is None:
                return f"{name} is missing"
            if found != (expected.bytes, expected.sha256):
                return f"{name} has changed"
        return None


def _place(manifest: bytes) -> str:
    """Return the name of the folder of an entry's files: equal contents are at the same place."""
    return hashlib.sha256(manifest).hexdigest()[:16]
