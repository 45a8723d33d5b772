"""Patterns that stand for several shards, and the split that a shard's name says."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from compress.data.names import SPLIT_WORDS
from compress.utils.errors import UsageError
from compress.utils.messages import truncate_list

MAX_SHARDS = 100_000
BRACES = re.compile(r"\{([^{}]*)\}")


def is_pattern(path: PurePath | str) -> bool:
    """Whether a path may stand for several files."""
    return re.search(r"[{*?\[]", str(path)) is not None


def fixed_folder(pattern: PurePath) -> PurePath:
    """Return the folders at the start of a pattern that stand for themselves."""
    return type(pattern)(*itertools.takewhile(lambda part: not is_pattern(part), pattern.parts[:-1]))


def alternatives(pattern: str) -> Iterator[str]:
    """Expand the braces of a pattern: `{000..007}` and `{train,test}` stand for several names, `MAX_SHARDS` in all."""
    for number, name in enumerate(_expanded(pattern)):
        if number == MAX_SHARDS:
            raise UsageError(f"data.path: {pattern} stands for more than {MAX_SHARDS:,} names; use a manifest")
        yield name


def _expanded(pattern: str) -> Iterator[str]:
    match = BRACES.search(pattern)
    if not match:
        yield pattern
        return
    for word in words_in(match[1], pattern):
        yield from _expanded(pattern[: match.start()] + word + pattern[match.end() :])


def words_in(inside: str, pattern: str) -> list[str]:
    """Return the words that the inside of a pair of braces stands for."""
    first, dots, last = inside.partition("..")
    if not dots:
        return inside.split(",")
    if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last) < int(first) + MAX_SHARDS):
        raise UsageError(f"data.path: {pattern}: {{{inside}}} must be two ascending numbers, such as {{000..007}}")
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


def parts_of(names: Sequence[str], where: object) -> list[str]:
    """Return the split that each name says; train if none of them says any.

    Raises:
        UsageError: only some of the names have a split.
    """
    known = [part_of(name) for name in names]
    if any(known):
        without = [PurePath(name).name for name, part in zip(names, known, strict=True) if not part]
        if without:
            raise UsageError(
                f"data.path: {where}: no split in the name of {truncate_list(without)}, though others have one; "
                "rename to train, validation, test or unlabeled"
            )
    return [part or "train" for part in known]


def part_of(name: str) -> str | None:
    """Return the part of the last split word in a path, or None."""
    for part in reversed(PurePath(name).parts):
        for word in reversed(re.findall(r"[a-z]+", part.lower())):
            if word in SPLIT_WORDS:
                return SPLIT_WORDS[word]
    return None
