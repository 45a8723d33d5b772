"""The words of messages: what was found, what is allowed, what was probably meant."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable
from typing import Any

from compress.utils.errors import printable

MAX_LENGTH = 60
MAX_OPTIONS = 300


def clean(text: str) -> str:
    """Text of others as it may be printed: one line, no control characters, not longer than a person reads."""
    shown = printable(text[: MAX_LENGTH + 1])
    return shown if len(shown) <= MAX_LENGTH else shown[: MAX_LENGTH - 3] + "..."


def found(value: Any) -> str:
    """What stands in a recipe, in words."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return f"'{clean(value)}'"
        case dict():
            return "a section"
        case list():
            return "a list"
        case _:
            return clean(str(value))


def listed(options: Iterable[str], last: str = "or") -> str:
    """`a, b or c`."""
    words = list(options)
    return f" {last} ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def few(names: Iterable[str]) -> str:
    """The first names of files, classes or columns, which may be long or hostile: `a, b and 3 more`."""
    words = list(names)
    shown = ", ".join(map(clean, words[:5])) + (f" and {len(words) - 5} more" if len(words) > 5 else "")
    return shown or "none"


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """`; did you mean 'x'?` where an option is near to the word, else nothing."""
    by_lower = {option.lower(): option for option in itertools.islice(options, MAX_OPTIONS)}
    near = difflib.get_close_matches(word[:MAX_LENGTH].lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean '{by_lower[near[0]]}'?" if near else ""
