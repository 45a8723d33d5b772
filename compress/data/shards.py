"""Shards, files of many images each: which there are, and which split each belongs to."""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from compress.data.image_io import exists, is_file, is_folder
from compress.data.layout import count_file, entries_of
from compress.data.layout import is_folder as is_folder_entry
from compress.data.left_out import Tally
from compress.data.names import SPLIT_WORDS
from compress.utils.errors import CompressError, UsageError
from compress.utils.messages import located, truncate_list
from compress.utils.resources import expand

MAX_SHARDS = 100_000
_BRACES = re.compile(r"\{([^{}]*)\}")


def find_shards(path: str, endings: tuple[str, ...], tally: Tally | None = None) -> list[tuple[Path, str]]:
    """Find shards, in order, each with its part. Other files in the folder `path` are counted in `tally`.

    The split is a word in the name of the file, or of a folder between it and `path`: `train-000.tar`, `test/000.tar`.
    If no name has one, all shards are train. `path` is a file, a folder, or a pattern: `{000..007}` and
    `{train,test}` stand for several names, `*` for any.

    Raises:
        CompressError: a folder cannot be read.
        UsageError: no shard is found, or only some of them have a split.
    """
    given = Path(expand(path)).expanduser()
    if is_folder(given):
        shards = [(shard, str(shard.relative_to(given))) for shard in _below(given, endings, tally)]
        if not shards:
            raise UsageError(f"data.path: {given}: no file with the extension {' or '.join(endings)} found")
    elif is_file(given):
        shards = [(given, given.name)]
    elif not is_pattern(given):
        raise UsageError(f"data.path: file {located(given)} not found")
    else:
        files = [Path(name) for one in _alternatives(str(given)) for name in _matches(one)]
        fixed = Path(*itertools.takewhile(lambda part: not re.search(r"[{*?\[]", part), given.parts[:-1]))
        shards = [(file, str(file.relative_to(fixed))) for file in dict.fromkeys(files)]
    known = [(shard, part_of(name)) for shard, name in shards]
    if any(part for _, part in known):
        without = [shard.name for shard, part in known if not part]
        if without:
            raise UsageError(
                f"data.path: {given}: no split in the name of {truncate_list(without)}, though others have one; "
                "rename to train, validation, test or unlabeled"
            )
    return [(shard, part or "train") for shard, part in known]


def is_pattern(path: Path) -> bool:
    """Whether a path may stand for several files."""
    return re.search(r"[{*?\[]", str(path)) is not None


def changed_at(file: Path) -> int:
    """Modification time of a shard in nanoseconds; a `CompressError` if it cannot be read."""
    try:
        return file.stat().st_mtime_ns
    except OSError as error:
        raise CompressError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:  # a name that no file can have
        raise CompressError(f"{file} cannot be read: {error}") from error


def _below(folder: Path, endings: tuple[str, ...], tally: Tally | None) -> list[Path]:
    """Files with one of the endings at any depth, sorted by path; links to folders are not followed."""
    found, folders = [], [folder]
    while folders:
        here = folders.pop()
        for entry in entries_of(here, tally):
            path = here / entry.name
            if is_folder_entry(entry):
                if not entry.is_symlink():
                    folders.append(path)
                elif tally is not None:
                    tally.add("folder", "link", path)
            elif entry.name.lower().endswith(endings) and path.is_file():
                found.append(path)
            else:
                count_file(tally, here, entry.name)
    return sorted(found)


def _alternatives(pattern: str) -> Iterator[str]:
    """Expand the braces of a pattern."""
    match = _BRACES.search(pattern)
    if not match:
        yield pattern
        return
    for word in _words(match[1], pattern):
        yield from _alternatives(pattern[: match.start()] + word + pattern[match.end() :])


def _words(inside: str, pattern: str) -> list[str]:
    first, dots, last = inside.partition("..")
    if not dots:
        return inside.split(",")
    if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last) < int(first) + MAX_SHARDS):
        raise UsageError(f"data.path: {pattern}: {{{inside}}} must be two ascending numbers, such as {{000..007}}")
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


def _matches(name: str) -> list[str]:
    files = sorted(glob.glob(name)) if re.search(r"[*?\[]", name) and not exists(Path(name)) else [name]  # noqa: PTH207 - Path.glob takes no absolute pattern
    if not files or not all(is_file(Path(file)) for file in files):
        raise UsageError(f"data.path: file {located(Path(name))} not found")
    return files


def part_of(name: str) -> str | None:
    """Return the part of the last split word in a path, or None."""
    for part in reversed(Path(name).parts):
        for word in reversed(re.findall(r"[a-z]+", part.lower())):
            if word in SPLIT_WORDS:
                return SPLIT_WORDS[word]
    return None
