"""`webdataset`: tar files of `KEY.jpg` with `KEY.cls`, `KEY.txt` or `KEY.json`, read without unpacking."""

from __future__ import annotations

import itertools
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from compress.data.archive import Archive, Place, open_archive, open_stream, read_at
from compress.data.decoding import file_source
from compress.data.image_io import ENDINGS
from compress.data.labels import Label, share_equal, sort_rows
from compress.data.lazy_shards import remembered, stamp
from compress.data.left_out import HIDDEN, NO_ENDING, LeftOut, Tally, file_kind
from compress.data.listing import Listing, check_reading, list_shards
from compress.data.names import is_number
from compress.data.shards import changed_at, find_shards, locate, stated_digests
from compress.data.source import Rows
from compress.recipe.data import LabelledData
from compress.utils.console import task
from compress.utils.errors import UsageError
from compress.utils.json_cache import load_cache, save_cache
from compress.utils.messages import one_line
from compress.utils.texts import Texts

SHARDS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
LEFT_OUT = 3  # place of the members that were left out in what is cached of a shard
MAX_LABEL = 2**20  # bytes
MAX_IMAGE = 2**29


class WebData(LabelledData):
    """WebDataset's tar files: `KEY.jpg` and beside it the label."""

    source: Literal["webdataset"]
    label: str = Field(
        "cls", description="ending of the member that holds the label, such as cls or txt; of a JSON, json.NAME"
    )

    @property
    def shard_endings(self) -> tuple[str, ...]:
        return SHARDS


def list_webdataset(settings: WebData) -> Listing:
    """List the images of the shards; see `listing.list_images`."""
    where = locate(settings.path)
    tally = Tally(Path(where))
    shards = find_shards(settings.path, SHARDS, tally, settings.cache_gb)
    files = [file for file, _ in shards]
    packed = [file.name for file in files if not file.name.lower().endswith(".tar")]
    sequential = packed[0] if packed else None
    check_reading(settings, where, has_test=True, sequential=sequential)
    samples = [_samples(file, settings.label) for file in files]
    starts = np.cumsum([0] + [len(own.labels) for own in samples])

    def place(row: int) -> tuple[int, int]:
        shard = int(np.searchsorted(starts, row, "right")) - 1
        return shard, row - int(starts[shard])

    def name(row: int) -> str:
        shard, own = place(row)
        return f"{files[shard].name}: {one_line(samples[shard].names[own])}"

    def read(rows: Rows) -> Iterator[bytes]:
        for shard, group in itertools.groupby(map(place, rows.tolist()), lambda both: both[0]):
            with open_stream(files[shard]) as stream:
                for _, own in group:
                    offset, size = samples[shard].places[own].tolist()
                    yield read_at(files[shard], stream, (offset, size if size <= MAX_IMAGE else 0))

    labels = ((part, label) for (_, part), own in zip(shards, samples, strict=True) for label in own.labels)
    rows = sort_rows(labels, settings.classes, where, name)
    for own in samples:
        tally.extend(own.left_out)
    stated = stated_digests(settings.path)
    listing = list_shards(where, files, starts[:-1], rows, name, read, tally.rows(), stated, label=settings.label)
    return replace(listing, sequential=sequential)


@dataclass(frozen=True)
class _Samples:
    """The samples of a shard."""

    places: NDArray[np.int64]  # of the images, `[n, 2]`: first byte and number of bytes
    names: Texts  # of the images
    labels: tuple[Label, ...]
    left_out: tuple[LeftOut, ...]  # members that are neither

    @classmethod
    def of(cls, rows: Sequence[tuple[Place, str, Label]], left_out: Iterable[LeftOut]) -> _Samples:
        places = np.array([place for place, _, _ in rows], np.int64).reshape(-1, 2)
        labels = tuple(share_equal(label for _, _, label in rows))
        return cls(places, Texts(name for _, name, _ in rows), labels, tuple(left_out))

    @classmethod
    def of_record(cls, record: Sequence[Any]) -> _Samples:
        rows, left_out = record
        return cls.of(rows, [LeftOut(*row) for row in left_out])

    def record(self) -> list[Any]:
        """Return what `of_record` reads, as values of JSON."""
        rows = zip(self.places.tolist(), self.names, self.labels, strict=True)
        return [list(rows), [list(astuple(row)) for row in self.left_out]]


def load_index(settings: WebData, cache: Path | None) -> None:
    """Make the samples of all shards known, from the JSON file `cache` as far as they have not changed since.

    Reading the headers of a million members takes minutes on some disks.
    """
    known = load_cache(cache, "shards", "the headers of the shards are read again")
    new = []
    for file, _ in find_shards(settings.path, SHARDS, limit=settings.cache_gb):
        key, name = _key(file, settings.label), f"{settings.label} {os.path.abspath(file)}"  # noqa: PTH100 - as digests
        stored = known.get(name, [])
        fresh = stored[:2] == list(key[1:3]) and len(stored) > LEFT_OUT
        if fresh and key not in _SAMPLES:
            _SAMPLES[key] = _Samples.of_record(stored[2:])
        elif not fresh:
            new.append((file, name))
    if new:
        with task("reading headers of shards", len(new)) as advance:
            for file, name in new:
                known[name] = [*_key(file, settings.label)[1:3], *_samples(file, settings.label).record()]
                advance()
        save_cache(cache, "shards", known)


_Key = tuple[Path, int, int, str]
_SAMPLES: dict[_Key, _Samples] = {}


def _key(file: Path, label: str) -> _Key:
    changed = changed_at(file)  # says if it is not there
    return file, stamp(file)[0], changed, label


def _samples(file: Path, label: str) -> _Samples:
    """Samples of a shard, read once."""
    key = _key(file, label)
    if key not in _SAMPLES:
        read = partial(_read_headers, file, label)
        _SAMPLES[key] = remembered(file, label, read, _Samples.of_record, _Samples.record)
    return _SAMPLES[key]


def _read_headers(file: Path, label: str) -> _Samples:
    """Samples of a shard: adjacent members with the same name up to the first dot."""
    ending, _, field = label.partition(".")
    samples: list[tuple[Place, str, Label]] = []
    tally = Tally()
    key: str | None = None
    image: tuple[Place, str] | None = None
    value: Label = None

    def close() -> None:
        if image is not None:
            samples.append((*image, value))
        elif value is not None:
            tally.add("member", "label without an image", f"{file.name}: {key}")

    with open_archive(file) as archive:
        for member in archive.members():
            where = f"{file.name}: {member.name}"
            if not member.isreg():
                if not member.isdir():
                    tally.add("member", "link or device", where)
                continue
            folder, slash, base = member.name.rpartition("/")
            stem, dot, kind = base.partition(".")
            if not dot or not stem:
                tally.add("member", HIDDEN if dot else NO_ENDING, where)
                continue
            if folder + slash + stem != key:
                close()
                key, image, value = folder + slash + stem, None, None
            if f".{kind.lower()}" in ENDINGS:
                if image is not None:
                    raise UsageError(f"{file.name}: {one_line(member.name)}: second image of its key")
                image = (archive.place(member), member.name)
            elif kind.lower() == ending.lower():
                value = _label(archive, member, field)
            else:
                tally.add("member", file_kind(f"{stem}.{kind.replace('.', '-')}").replace("-", "."), where)
        close()
        archive.check_end()
    return _Samples.of(samples, tally.rows())


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


def kinds_of(file: Path, members: int = 50) -> tuple[set[str], list[str]]:
    """Extensions of the first members of a shard, and the fields of the first JSON among them."""
    endings: set[str] = set()
    fields: list[str] = []
    with open_archive(file) as archive:
        for member in itertools.islice(archive.members(), members):
            kind = member.name.rpartition("/")[2].partition(".")[2].lower()
            endings.add(kind)
            if kind == "json" and not fields and member.isreg() and member.size <= MAX_LABEL:
                with suppress(ValueError, RecursionError):
                    value = json.loads(archive.content(member))
                    fields = [str(name) for name in value] if isinstance(value, dict) else []
    return endings, fields


SOURCE = file_source(WebData, "WebDataset tar files", list_webdataset, load_index=load_index)
