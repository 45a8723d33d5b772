"""Versions of the files that this package writes for other programs, and later versions of itself, to read."""

from __future__ import annotations

from pathlib import Path

from compress.utils.errors import CompressError

PREPROCESS_VERSION = 1
"""`schema_version` of `preprocess.json`."""


def require_version(values: object, known: int, path: Path) -> None:
    """Refuse the content of a JSON file that a later version of this package wrote.

    Raises:
        CompressError: its `schema_version` is not one up to `known`; content without one is of the first.
    """
    version = values.get("schema_version", known) if isinstance(values, dict) else known
    if type(version) is not int or version < 1:
        raise CompressError(f"{path} is damaged: schema_version must be a positive integer, not {version!r}")
    if version > known:
        raise CompressError(
            f"{path} has schema_version {version}, and this version reads {known}; upgrade compress-model"
        )
