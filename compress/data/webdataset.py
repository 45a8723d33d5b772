"""`webdataset`: tar files of `KEY.jpg` with `KEY.cls`, `KEY.txt` or `KEY.json`, read without unpacking."""

from __future__ import annotations

import bisect
import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Literal

from pydantic import Field

from compress.data.archive import Archive, open_archive
from compress.data.decoding import file_source
from compress.data.image_io import ENDINGS
from compress.data.listing import Label, Listing, Rows, is_number, list_shards, sort_rows
from compress.data.shards import changed_at, find_shards
from compress.recipe.data import LabelledData
from compress.utils.errors import UsageError
from compress.utils.messages import one_line
from compress.utils.resources import expand

SHARDS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MAX_LABEL = 2**20  # bytes
MAX_IMAGE = 2**29
Sample = tuple[int, str, Label]  # index of the image among the members of its tar, its name, and its label


class WebData(LabelledData):
    """WebDataset's tar files: `KEY.jpg` and beside it the label."""

    source: Literal["webdataset"]
    label: str = Field(
        "cls", description="ending of the member that holds the label, such as cls or txt; of a JSON, json.NAME"
    )


def list_webdataset(settings: WebData) -> Listing:
    """List the images of the shards; see `listing.list_images`."""
    shards = find_shards(settings.path, SHARDS)
    files = [file for file, _ in shards]
    samples: list[tuple[str, Sample]] = []
    starts: list[int] = []
    for file, part in shards:
        starts.append(len(samples))
        samples += ((part, sample) for sample in _samples(file, changed_at(file), settings.label))

    def name(row: int) -> str:
        return f"{files[bisect.bisect_right(starts, row) - 1].name}: {one_line(samples[row][1][1])}"

    def items(rows: Rows) -> Iterator[bytes]:
        for number, file in enumerate(files):
            end = starts[number + 1] if number + 1 < len(files) else len(samples)
            inside = rows[(rows >= starts[number]) & (rows < end)]
            yield from _images(file, [samples[row][1][0] for row in inside.tolist()])

    where = Path(expand(settings.path)).expanduser()
    rows = sort_rows(((part, label) for part, (_, _, label) in samples), settings.classes, str(where), name)
    return list_shards(where, files, rows, name, items, label=settings.label)


@lru_cache(maxsize=256)
def _samples(file: Path, changed: int, label: str) -> tuple[Sample, ...]:
    """Samples of a shard: adjacent members with the same name up to the first dot. `changed` keys the cache."""
    ending, _, field = label.partition(".")
    samples: list[Sample] = []
    key: str | None = None
    image: tuple[int, str] | None = None
    value: Label = None

    def close() -> None:
        if image is not None:
            samples.append((*image, value))

    with open_archive(file) as archive:
        for number, member in enumerate(archive.members()):
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
                    raise UsageError(f"{file.name}: {one_line(member.name)}: second image of its key")
                image = (number, member.name)
            elif kind.lower() == ending.lower():
                value = _label(archive, member, field)
        close()
        archive.check_end()
    return tuple(samples)


def _label(archive: Archive, member: tarfile.TarInfo, field: str) -> Label:
    where = f"{archive.file.name}: {one_line(member.name)}"
    if member.size > MAX_LABEL:
        raise UsageError(f"{where}: {member.size:,} bytes are too many for a label")
    try:
        text = archive.content(member).decode("utf-8").strip()
        if not field:  # a class is its number, a text is its name
            return int(text) if member.name.lower().endswith(".cls") and is_number(text) else text
        value = json.loads(text)[field]
    except UnicodeDecodeError as error:
        raise UsageError(f"{where}: not UTF-8 text") from error
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise UsageError(f"{where}: not a JSON object with '{one_line(field)}'") from error
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
        raise UsageError(f"{where}: '{one_line(field)}' is {one_line(str(value))}, not a whole number or text")
    return value


def _images(file: Path, numbers: Sequence[int]) -> Iterator[bytes]:
    """Contents of the members with these numbers, which must be in ascending order."""
    wanted = iter(numbers)
    next_one = next(wanted, None)
    if next_one is None:
        return
    with open_archive(file) as archive:
        for number, member in enumerate(archive.members()):
            if number != next_one:
                continue
            yield archive.content(member) if member.size <= MAX_IMAGE else b""
            next_one = next(wanted, None)
            if next_one is None:
                return


def kinds_of(file: Path, members: int = 50) -> tuple[set[str], list[str]]:
    """Extensions of the first members of a shard, and the fields of the first JSON among them."""
    endings: set[str] = set()
    fields: list[str] = []
    with open_archive(file) as archive:
        for member in islice(archive.members(), members):
            kind = member.name.rpartition("/")[2].partition(".")[2].lower()
            endings.add(kind)
            if kind == "json" and not fields and member.isreg() and member.size <= MAX_LABEL:
                with suppress(ValueError, RecursionError):
                    value = json.loads(archive.content(member))
                    fields = [str(name) for name in value] if isinstance(value, dict) else []
    return endings, fields


SOURCE = file_source(WebData, "WebDataset tar files", list_webdataset)
