"""`entry.json` of a store entry: what it is, and the size and SHA-256 of each of its files."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from compress.utils.atomic import fsync, write_atomic
from compress.utils.hashing import file_digest
from compress.utils.json_cache import seal, unseal

MANIFEST = "entry.json"


class FileRecord(BaseModel):
    """Size in bytes and SHA-256 of a file."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    bytes: int
    sha256: str


class Manifest(BaseModel):
    """Contents of an entry, files by their paths below its folder."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    key: str
    what: str
    files: dict[str, FileRecord]

    def text(self) -> str:
        """Return the manifest as it is written."""
        return seal(self.model_dump(), indent=1)


def read_manifest(folder: Path) -> Manifest | None:
    """Read the manifest of an entry; None if it is not byte for byte what was written."""
    try:
        return parse_manifest((folder / MANIFEST).read_text(), folder.name)
    except (OSError, ValueError):
        return None


def parse_manifest(text: str, key: str) -> Manifest | None:
    """Parse the manifest of the entry `key`; None if it is not byte for byte what was written.

    Entries of the first version have neither key nor digest in their manifest; theirs is taken as it is.
    """
    try:
        body = json.loads(text)
        first_version = set(body) == {"what", "files"}
        return Manifest.model_validate({"key": key, **body} if first_version else unseal(text, indent=1))
    except (ValueError, TypeError, RecursionError):  # pydantic's error is a ValueError
        return None


def find_damage(folder: Path, key: str | None = None) -> str | None:
    """Return the first thing that is wrong with the entry `key`; default: the one that its folder is named after."""
    manifest = read_manifest(folder)
    if manifest is None:
        return f"cannot read {MANIFEST}"
    if manifest.key != (key or folder.name):
        return f"it is the entry {manifest.key}"
    for name, expected in manifest.files.items():
        path = folder / name
        try:
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != expected.bytes or file_digest(path) != expected.sha256:
                return f"{name} has changed"
        except OSError as error:
            return f"cannot read {name}: {error.strerror}"
    return None


def seal_entry(folder: Path, key: str, what: str) -> None:
    """Write the manifest of what is in `folder`, and wait until all of it is on the disk."""
    for leftover in folder.rglob(".*.partial"):  # of a killed run
        leftover.unlink()
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST):
        files[path.relative_to(folder).as_posix()] = FileRecord(bytes=path.stat().st_size, sha256=file_digest(path))
        fsync(path)
    for path in folder.rglob("*"):
        if path.is_dir():
            fsync(path)
    write_atomic(folder / MANIFEST, Manifest(key=key, what=what, files=files).text())
