"""`webdataset`: tar files of `KEY.jpg` with `KEY.cls`, `KEY.txt` or `KEY.json`. They are read, never unpacked."""

from __future__ import annotations

import bisect
import json
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import islice
from lzma import LZMAError
from pathlib import Path
from typing import Any

from compress.data.files import ENDINGS
from compress.data.listing import Label, Listing, Rows, of_shards, sort_out
from compress.data.shards import find_shards
from compress.errors import CompressError, UsageError, first_line
from compress.recipe.data import WebData
from compress.recipe.words import clean
from compress.resources import expand

SHARDS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
LARGEST_LABEL = 2**20  # bytes
LARGEST_IMAGE = 2**29
Sample = tuple[int, str, Label]
"""Number of the image among the members of its tar, its name, and its label."""


def listing(settings: WebData) -> Listing:
    """What the shards hold.

    Raises:
        CompressError: a shard cannot be read.
        UsageError: there is none, or a label is wrong; the member is named.
    """
    shards = find_shards(settings.path, SHARDS)
    files = [file for file, _ in shards]
    samples: list[tuple[str, Sample]] = []
    starts: list[int] = []
    for file, part in shards:
        starts.append(len(samples))
        samples += ((part, sample) for sample in _samples(file, file.stat().st_mtime_ns, settings.label))

    def name(row: int) -> str:
        return f"{files[bisect.bisect_right(starts, row) - 1].name}: {clean(samples[row][1][1])}"

    def items(rows: Rows) -> Iterator[bytes]:
        for number, file in enumerate(files):
            end = starts[number + 1] if number + 1 < len(files) else len(samples)
            inside = rows[(rows >= starts[number]) & (rows < end)]
            yield from _images(file, [samples[row][1][0] for row in inside.tolist()])

    where = Path(expand(settings.path)).expanduser()
    found = sort_out(((part, label) for part, (_, _, label) in samples), settings.classes, str(where), name)
    return of_shards(where, files, found, name, items, label=settings.label)


@lru_cache(maxsize=256)
def _samples(file: Path, changed: int, label: str) -> tuple[Sample, ...]:
    """Samples of a shard, in order: neighbours with the same name up to its first dot. `changed` is for the cache."""
    ending, _, field = label.partition(".")
    samples: list[Sample] = []
    key: str | None = None
    image: tuple[int, str] | None = None
    value: Label = None

    def close() -> None:
        if image is not None:
            samples.append((*image, value))

    with _members(file) as (archive, members):
        for number, member in enumerate(members):
            if not member.isreg():
                continue
            folder, slash, base = member.name.rpartition("/")
            stem, dot, kind = base.partition(".")
            if not dot or not stem:
                continue
            if folder + slash + stem != key:
                close()
                key, image, value = folder + slash + stem, None, None
            if f".{kind.lower()}" in ENDINGS:
                if image is not None:
                    raise UsageError(f"{file.name}: {clean(member.name)}: is the second image of its key")
                image = (number, member.name)
            elif kind.lower() == ending.lower():
                value = _label(file, archive, member, field)
        close()
        _check_end(file, archive)
    return tuple(samples)


def _check_end(file: Path, archive: tarfile.TarFile) -> None:
    """Python's tarfile takes a damaged header for the end of the archive; the real end is a block of zeros."""
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise CompressError(f"{file} cannot be read: it is damaged or cut off at byte {archive.offset:,}")


def _label(file: Path, archive: tarfile.TarFile, member: tarfile.TarInfo, field: str) -> Label:
    where = f"{file.name}: {clean(member.name)}"
    content = archive.extractfile(member)
    if content is None or member.size > LARGEST_LABEL:
        raise UsageError(f"{where}: is {member.size:,} bytes, which no label has")
    try:
        text = content.read().decode("utf-8").strip()
        if not field:  # a class is its number, a text is its name
            return int(text) if member.name.lower().endswith(".cls") and text.isdecimal() else text
        value = json.loads(text)[field]
    except UnicodeDecodeError as error:
        raise UsageError(f"{where}: is not UTF-8 text") from error
    except (ValueError, TypeError, LookupError) as error:
        raise UsageError(f"{where}: is no JSON object with '{clean(field)}'") from error
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
        raise UsageError(f"{where}: '{clean(field)}' is {clean(str(value))}, not a whole number or text")
    return value


def _images(file: Path, numbers: Sequence[int]) -> Iterator[bytes]:
    """Bytes of the members with these numbers, which rise."""
    wanted = iter(numbers)
    next_one = next(wanted, None)
    if next_one is None:
        return
    with _members(file) as (archive, members):
        for number, member in enumerate(members):
            if number != next_one:
                continue
            content = archive.extractfile(member) if member.size <= LARGEST_IMAGE else None
            yield content.read() if content else b""
            next_one = next(wanted, None)
            if next_one is None:
                return


def kinds_of(file: Path, most: int = 50) -> tuple[set[str], list[str]]:
    """Endings of the first members of a shard, and the fields of the first JSON among them."""
    endings: set[str] = set()
    fields: list[str] = []
    with _members(file) as (archive, members):
        for member in islice(members, most):
            kind = member.name.rpartition("/")[2].partition(".")[2].lower()
            endings.add(kind)
            content = archive.extractfile(member) if kind == "json" and not fields else None
            if content and member.size <= LARGEST_LABEL:
                with suppress(ValueError):
                    value = json.loads(content.read())
                    fields = [str(name) for name in value] if isinstance(value, dict) else []
    return endings, fields


@contextmanager
def _members(file: Path) -> Iterator[tuple[tarfile.TarFile, Iterator[Any]]]:
    try:
        with tarfile.open(file) as archive:
            yield archive, iter(archive)
    except (tarfile.TarError, EOFError, zlib.error, LZMAError, OSError) as error:
        raise CompressError(f"{file} cannot be read: {first_line(error)}") from error
