"""Names and patterns of objects below a URL, and which objects they stand for."""

from __future__ import annotations

import fnmatch
import itertools
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from compress.data.patterns import BRACES, alternatives, is_pattern, words_in
from compress.store.shared import ObjectInfo, SharedFolder
from compress.utils.errors import UsageError
from compress.utils.messages import truncate_list

LOOKUPS = 4  # objects at a time
_PIECES = re.compile(rf"{BRACES.pattern}|(?P<star>\*+)|(?P<kind>\?|\[!?\]?[^\]]*\])")


class _Words:
    """Words in braces, and the place of each there."""

    def __init__(self, words: Sequence[str]) -> None:
        self.places = {word: place for place, word in reversed(list(enumerate(words)))}
        self.lengths = {len(word) for word in words}


_Token = str | re.Pattern[str] | _Words | None
"""A piece of a pattern: text, one character of a kind, words in braces, or None for `*`."""


def matching(url: str, pattern: str) -> list[ObjectInfo]:
    """Return the objects below a URL that a name or a pattern stands for, in the order of its alternatives.

    Raises:
        UsageError: there is none for one of the alternatives.
    """
    folder, names = SharedFolder(url), list(alternatives(pattern))
    if any(map(is_pattern, names)) or (len(names) > 1 and not url.startswith("http")):
        lacking, found = _find(folder.listing(), pattern, names)
    else:
        with ThreadPoolExecutor(LOOKUPS) as pool:
            infos = list(pool.map(folder.info, names))
        lacking = [name for name, info in zip(names, infos, strict=True) if info is None]
        found = list(dict.fromkeys(info for info in infos if info is not None))
    if lacking:
        raise UsageError(f"data.path: {url}/: {truncate_list(lacking)} not found; check the bucket and the names")
    return found


def _find(objects: Sequence[ObjectInfo], pattern: str, names: Sequence[str]) -> tuple[list[str], list[ObjectInfo]]:
    """Return the alternatives of a pattern that no object matches, and the objects that match one.

    An object is compared with the pattern, not with each of its alternatives, of which there may be as many.
    """
    simple = _is_simple(pattern)
    found: list[tuple[tuple[int, ...], int]] = []
    seen: set[tuple[int, ...]] = set()
    patterns = [_tokens(each) for each in ([pattern] if simple else names)]
    for (number, each), (first, tokens) in itertools.product(enumerate(objects), enumerate(patterns)):
        if places := [(first, *own) for own in _matches(tokens, each.name, 0)]:
            found.append((min(places), number))
            seen.update(places)
    words = [range(len(words_in(match[1], pattern))) for match in BRACES.finditer(pattern)] if simple else []
    every = itertools.product(range(len(patterns)), *words)
    present = {name for name, places in zip(names, every, strict=True) if places in seen}
    lacking = [name for name in names if name not in present]
    return lacking, [objects[number] for number in dict.fromkeys(number for _, number in sorted(found))]


def _is_simple(pattern: str) -> bool:
    """Return whether no braces are within braces, or have other signs of patterns in them."""
    return "{" not in BRACES.sub("", pattern) and not any(map(is_pattern, BRACES.findall(pattern)))


def _tokens(pattern: str) -> list[_Token]:
    tokens: list[_Token] = []
    end = 0
    for piece in _PIECES.finditer(pattern):
        tokens.append(pattern[end : piece.start()])
        end = piece.end()
        if piece["star"]:
            tokens.append(None)
        elif piece["kind"]:
            tokens.append(re.compile(fnmatch.translate(piece["kind"])))
        else:
            tokens.append(_Words(words_in(piece[1], pattern)))
    return [token for token in (*tokens, pattern[end:]) if token != ""]


def _matches(tokens: Sequence[_Token], name: str, start: int) -> Iterator[tuple[int, ...]]:
    """Yield the words, by their places in braces, with which the rest of a name matches; `*` stops at a `/`."""
    if not tokens:
        if start == len(name):
            yield ()
        return
    token, *others = tokens
    if isinstance(token, str):
        if name.startswith(token, start):
            yield from _matches(others, name, start + len(token))
    elif isinstance(token, _Words):
        for length in token.lengths:
            if (place := token.places.get(name[start : start + length])) is not None:
                yield from ((place, *own) for own in _matches(others, name, start + length))
    elif token is None:
        slash = name.find("/", start)
        for end in range(start, (slash if slash >= 0 else len(name)) + 1):
            yield from _matches(others, name, end)
    elif start < len(name) and name[start] != "/" and token.match(name[start]):
        yield from _matches(others, name, start + 1)
