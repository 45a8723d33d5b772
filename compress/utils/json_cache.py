"""What was found out before and can be found out again, in a JSON file with its own digest."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from compress.utils.atomic import write_atomic
from compress.utils.console import say
from compress.utils.hashing import key_of


def recall(file: Path | None, name: str, otherwise: str) -> dict[str, Any]:
    """What a file remembers under `name`; nothing where it is missing, or damaged, which is said.

    Args:
        file: None remembers nothing.
        name: The one field beside the digest.
        otherwise: What follows from a damage, for the person: "the images are hashed again".
    """
    if file is None or not file.exists():
        return {}
    try:
        told = json.loads(file.read_text())
        known = told[name]
        if told["sha256"] != key_of(**{name: known}) or not isinstance(known, dict):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        say(f"store: {file} is damaged; {otherwise}")
        return {}
    return known


def remember(file: Path | None, name: str, known: dict[str, Any]) -> None:
    """Write what `recall` gives; a store that is read-only costs time on the next call, and no error."""
    if file is None:
        return
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps({name: known, "sha256": key_of(**{name: known})}))
