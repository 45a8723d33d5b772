"""Keys and digests: what stands for content."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def key_of(**parts: Any) -> str:
    """24 hexadecimal digits that stand for `parts`, which are plain data."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
