"""Files that a call names for its output."""

from __future__ import annotations

from pathlib import Path

from compress.utils.atomic import write_atomic
from compress.utils.errors import UsageError


def require_writable(path: Path, option: str) -> None:
    """Refuse a place where no file can be, before the work that its content takes.

    Raises:
        UsageError: its folder does not exist, or the path is a folder itself.
    """
    if path.is_dir():
        raise UsageError(f"{option} {path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} does not exist; create it, or name a file elsewhere with {option}")


def write_output(path: Path, text: str) -> None:
    """Write a text: a file as a whole or not at all, and devices such as `/dev/stdout` and pipes as they are.

    Raises:
        OSError: it cannot be written there.
    """
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8") as file:
            file.write(text)
    else:
        write_atomic(path, text)
