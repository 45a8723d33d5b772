"""Parts of error messages: values, lists of names, and suggestions."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from compress.utils.errors import printable

MAX_LENGTH = 60
MAX_NAMES = 5
MAX_OPTIONS = 300  # options that a word from a recipe is compared with: a hostile recipe can have thousands of both


def one_line(text: str) -> str:
    """Return untrusted text as one printable line of at most `MAX_LENGTH` characters."""
    shown = printable(text[: MAX_LENGTH + 1])
    return shown if len(shown) <= MAX_LENGTH else shown[: MAX_LENGTH - 3] + "..."


def describe(value: Any) -> str:
    """Describe a value from a recipe in words."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return f"'{one_line(value)}'"
        case dict():
            return "a section"
        case list():
            return "a list"
        case _:
            return one_line(str(value))


def significant(value: float, digits: int = 3) -> str:
    """Write significant digits, and large figures whole: 0.0371, 12.3, 12,345; never 1.23e+04."""
    rounded = f"{value:,.{digits}g}"
    return f"{value:,.0f}" if abs(float(rounded.replace(",", ""))) >= 10**digits else rounded


def join_words(options: Iterable[str], last: str = "or") -> str:
    """Join words as `a, b or c`."""
    words = list(options)
    return f" {last} ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def truncate_list(names: Iterable[str]) -> str:
    """Join the first of some untrusted names, of files, classes or columns: `a, b and 3 more`, or `none`."""
    words = list(names)
    more = len(words) - MAX_NAMES
    return ", ".join(map(one_line, words[:MAX_NAMES])) + (f" and {more} more" if more > 0 else "") or "none"


def did_you_mean(word: str, options: Iterable[str], most: int = 1, limit: int | None = MAX_OPTIONS) -> str:
    """Return `; did you mean 'a' or 'b'?` if options are close to the word, else an empty string.

    `limit` is the number of options to compare with; None for all, where the options are our own.
    """
    by_lower = {option.lower(): option for option in itertools.islice(options, limit)}
    close = difflib.get_close_matches(word[:MAX_LENGTH].lower(), by_lower, n=most, cutoff=0.6)
    suggestions = [f"'{by_lower[name]}'" for name in close]
    return f"; did you mean {join_words(suggestions)}?" if close else ""


def located(path: Path) -> str:
    """Format a path that was not found: a relative one with the folder in which it was looked for."""
    return printable(str(path) if path.is_absolute() else f"{path} (in {Path.cwd()})")


def unknown(what: str, name: str, options: Iterable[str]) -> str:
    """Return `unknown trend 'esay'; did you mean 'essay'? choose one of energy, essay`."""
    return f"unknown {what} {name!r}{choices(name, options)}"


def choices(name: str, options: Iterable[str]) -> str:
    """Return `; did you mean 'essay'? choose one of energy, essay`, without the question if none is close."""
    names = list(options)
    return f"{did_you_mean(name, names) or ';'} choose one of {', '.join(names)}"
