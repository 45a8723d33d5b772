"""Names, of classes for instance, that file systems and keyboards write in different forms."""

from __future__ import annotations

import unicodedata


def same_name(text: str) -> str:
    """Return a name in one form: file systems store an accented letter as one character or as two."""
    return unicodedata.normalize("NFC", text)
