"""URLs of folders and files behind a protocol, and which of them are refused."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from urllib.parse import unquote

from compress.utils.errors import UsageError

AZURE = ("az", "abfs", "abfss")
URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(/+)(.*)", re.DOTALL)
_FILE = re.compile(r"file:(?://(?:localhost)?(?=/))?", re.IGNORECASE)


def is_url(text: str) -> bool:
    """Return whether a text names something behind a protocol rather than a local path; `file://` is local too."""
    match = URL.match(text)
    return "::" in text or (match is not None and match[1].lower() != "file")


def check_url(url: str) -> None:
    """Refuse URLs with credentials, which would end in logs and results, and those that name no folder.

    Raises:
        UsageError: it has a user, a password or a query, names no folder, or is several in one. No part of it that may
            be secret is in the message.
    """
    match = URL.match(url)
    if "::" in url or match is None:
        raise UsageError("chained URLs are not supported; write s3://bucket/folder, gs://... or az://...")
    scheme, slashes, rest = match.groups()
    first = rest.split("/")[0]
    container = scheme.lower() in AZURE and ":" not in rest  # container@account
    password = re.search(r":.*@", rest, re.DOTALL) or (":" in first and not re.fullmatch(r"[^:@]+:\d+", first))
    if password or ("@" in first and not container) or "?" in rest or "#" in rest:
        where = "credentials do not belong in a URL; put them where the service's own tools look"
        raise UsageError(f"{scheme}://...: {where}")
    if len(slashes) != 2 or not rest.strip("/ "):
        raise UsageError(f"{scheme}: names no folder; write it as in {scheme}://bucket/runs")


def cache_of(url: str, cache: Path | None, kind: str) -> Path:
    """Return the folder of a user's `cache` that stands for a URL; a `UsageError` where the user has no cache."""
    if cache is None:
        raise UsageError(f"{url}: no place for a local copy; set XDG_CACHE_HOME to a folder")
    name = re.sub("[^A-Za-z0-9]+", "-", url).strip("-")[:40]
    return cache / kind / f"{name}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def local_path(text: str) -> str:
    """Return the local path that a `file:` URL stands for; any other text as it is."""
    return unquote(_FILE.sub("", text, count=1)) if _FILE.match(text) and text[5:6] == "/" else text
