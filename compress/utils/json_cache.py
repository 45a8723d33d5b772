"""JSON files with a digest of their own, and caches in such files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from compress.utils.atomic import write_atomic
from compress.utils.console import say
from compress.utils.hashing import key_of


def seal(body: Mapping[str, object], indent: int | None = None) -> str:
    """Return `body` as JSON text whose last field, `sha256`, is the digest of the others."""
    return json.dumps({**body, "sha256": key_of(**body)}, indent=indent)


def unseal(text: str, indent: int | None = None) -> dict[str, Any]:
    """Return the `body` of a text that `seal` wrote.

    Raises:
        ValueError: it is not byte for byte what `seal` wrote.
    """
    try:
        body = json.loads(text)
        del body["sha256"]
        if text == seal(body, indent):
            return dict(body)
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError("not a sealed JSON object") from error
    raise ValueError("the digest does not match")


def load_cache(file: Path | None, name: str, consequence: str) -> dict[str, Any]:
    """Read a section of a cache; it is empty if it is missing, or the file damaged, which is printed with its
    `consequence`.
    """
    try:
        return _sections(file).get(name, {})
    except (OSError, ValueError):
        say(f"store: {file} is damaged; {consequence}")
        return {}


def save_cache(file: Path | None, name: str, known: Mapping[str, object]) -> None:
    """Add to a section of a cache that `load_cache` reads; if the store is read-only, nothing is cached.

    What other processes have added since the section was read stays.
    """
    if file is None:
        return
    try:
        others = _sections(file)
    except (OSError, ValueError):
        others = {}
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, seal({**others, name: {**others.get(name, {}), **known}}))


def _sections(file: Path | None) -> dict[str, dict[str, Any]]:
    """Read all sections of a cache; a damaged one is a `ValueError`."""
    if file is None or not file.exists():
        return {}
    sections = unseal(file.read_text())
    if not all(isinstance(section, dict) for section in sections.values()):
        raise ValueError("a section is not an object")
    return sections
