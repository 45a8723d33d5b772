"""Systems that the package runs on. Imports nothing that only some of them have."""

from __future__ import annotations

import sys

from compress.utils.errors import UsageError


def require_supported_system() -> None:
    """Refuse Windows.

    Raises:
        UsageError: this is Windows itself.
    """
    if sys.platform == "win32":
        raise UsageError("Windows itself is not supported; use WSL 2, a Linux container, or another machine")
