"""Keys and digests of content."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path


def key_of(**parts: object) -> str:
    """Return 24 hexadecimal digits that identify `parts`, which are plain data."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
