"""`parquet` and `hf-dataset`: tables with the images inside, read by pyarrow, which is imported on first use."""

from __future__ import annotations

import bisect
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from compress.data.arrow_files import opened
from compress.data.decoding import file_source
from compress.data.labels import Value, share_equal, sort_rows
from compress.data.lazy_shards import remembered, stamp
from compress.data.left_out import Tally
from compress.data.listing import Listing, list_shards
from compress.data.names import SPLIT_WORDS
from compress.data.saved_dataset import saved_shards
from compress.data.shards import changed_at, find_shards, locate, stated_digests
from compress.data.source import Rows
from compress.recipe.data import TableData
from compress.utils.errors import CompressError, UsageError
from compress.utils.messages import did_you_mean, one_line, truncate_list
from compress.utils.names import same_name

if TYPE_CHECKING:
    import pyarrow as pa


class ArrowData(TableData):
    """Parquet files, or a folder that Hugging Face `datasets` has saved to disk, with the images inside."""

    source: Literal["parquet", "hf-dataset"]
    image: str = Field("image", description="column of the images: their files' bytes, or a struct that has `bytes`")

    @property
    def shard_endings(self) -> tuple[str, ...]:
        return (".parquet",) if self.source == "parquet" else ()


def list_arrow(settings: ArrowData) -> Listing:
    """List the images of a table without reading them; see `listing.list_images`."""
    where = locate(settings.path)
    tally = Tally(Path(where))
    endings = settings.shard_endings
    shards = (
        find_shards(settings.path, endings, tally, settings.cache_gb) if endings else saved_shards(Path(where), tally)
    )
    files = [file for file, _ in shards]
    starts: list[int] = []
    rows: list[tuple[str, Value]] = []
    names: list[str] | None = None
    for number, (file, part) in enumerate(shards):
        of_file, labels, splits = _columns(file, changed_at(file), settings.image, settings.label, settings.split)
        if number and of_file != names:
            raise UsageError(f"{file}: class names differ from those of {files[0]}")
        names = of_file
        starts.append(len(rows))
        rows += zip(_parts(file, part, splits, len(labels)), labels, strict=True)

    def name(row: int) -> str:
        shard = bisect.bisect_right(starts, row) - 1
        return f"{files[shard].name}: row {row - starts[shard]}"

    rows, notes = _named(rows, names, settings.classes, where)
    parts = sort_rows(rows, settings.classes or names, where, name)
    parts = replace(parts, notes=(*parts.notes, *notes))
    return list_shards(
        where,
        files,
        starts,
        parts,
        name,
        lambda kept: _images(files, starts, settings.image, kept),
        tally.rows(),
        stated_digests(settings.path),
        image=settings.image,
    )


def _named(
    rows: list[tuple[str, Value]], names: Sequence[str] | None, classes: Sequence[str] | None, where: str
) -> tuple[list[tuple[str, Value]], tuple[str, ...]]:
    """Return rows whose numbers are names where a recipe has a `ClassLabel`'s in another order, and remarks on names.

    Raises:
        UsageError: some names are the same at other places, so that the numbers would be of other classes.
    """
    own, given = (list(map(same_name, each or ())) for each in (names, classes))
    if not own or not given or own == given or all(isinstance(label, str) for _, label in rows):
        return rows, ()
    if sorted(own) == sorted(given):
        named: dict[Value, Value] = {}
        named.update(enumerate(own))
        return [(part, label if isinstance(label, str) else named.get(label, label)) for part, label in rows], ()
    if moved := [name for place, name in enumerate(given) if name in own and own.index(name) != place]:
        raise UsageError(
            f"{where}: data.classes has {truncate_list(moved)} at other places than the labels' own names "
            f"({truncate_list(own)}); list these, in any order, or new names in their order"
        )
    pairs = [f"{new} for {old}" for new, old in zip(given, own, strict=False) if new != old]
    return rows, (f"`classes` are in place of the labels' own names: {truncate_list(pairs)}.",) if pairs else ()


_Columns = tuple[list[str] | None, list[Value], list[str | None]]


@lru_cache(maxsize=4096)
def _columns(file: Path, changed: int, image: str, label: str, split: str | None) -> _Columns:
    """Class names of a shard, if its schema has any, and labels and splits of its rows. `changed` keys the cache."""
    read = partial(_read_columns, file, image, label, split)
    return remembered(file, json.dumps([image, label, split]), read, _load_columns)


def _load_columns(record: Sequence[Any]) -> _Columns:
    names, labels, splits = record
    return names, list(share_equal(labels)), list(share_equal(splits))


def _read_columns(file: Path, image: str, label: str, split: str | None) -> _Columns:
    labels: list[Value] = []
    splits: list[str | None] = []
    size = stamp(file)[0]
    with opened(file) as shard:
        _check_columns(file, shard.schema, image, label, split)
        columns = [label] if split in (None, label) else [label, str(split)]
        for batch in itertools.chain.from_iterable(shard.batches(columns, row) for row in range(len(shard.groups))):
            if len(labels) + len(batch) > size:
                raise CompressError(f"{file} cannot be read: it has more rows than its {size:,} bytes")
            labels += share_equal(batch.column(label).to_pylist())
            splits += share_equal(batch.column(split).to_pylist()) if split else ()
        return _class_names(shard.schema, label), labels, splits


def _check_columns(file: Path, schema: pa.Schema, image: str, label: str, split: str | None) -> None:
    import pyarrow.types as kinds

    for column in (image, label, *([split] if split else [])):
        if (count := schema.names.count(column)) > 1:
            raise UsageError(f"{file}: {count} columns '{one_line(column)}'; rename all but the one that is meant")
        if schema.get_field_index(column) < 0:
            hint = did_you_mean(column, schema.names)
            raise UsageError(
                f"{file}: column '{one_line(column)}' not found{hint or ';'} columns: {truncate_list(schema.names)}"
            )
    kind = schema.field(image).type
    if not _holds_images(kind):
        raise UsageError(f"{file}: the column '{one_line(image)}' is {kind}, not bytes or a struct that has `bytes`")
    kind = schema.field(label).type
    value = kind.value_type if kinds.is_dictionary(kind) else kind
    # Whole numbers beside gaps are floats in pandas.
    fits = (kinds.is_integer, kinds.is_floating, kinds.is_string, kinds.is_large_string, kinds.is_null)
    if not any(fit(value) for fit in fits):
        raise UsageError(f"{file}: the column '{one_line(label)}' is {kind}, not whole numbers or text")


def columns_of(file: Path) -> tuple[list[str], list[str]]:
    """Names of the columns of a shard that can hold images, and of all its columns."""
    with opened(file) as shard:
        return [field.name for field in shard.schema if _holds_images(field.type)], list(shard.schema.names)


def values_of(file: Path, column: str) -> set[str]:
    """Distinct values of a column of a shard, as text; that of a gap is empty."""
    with opened(file) as shard:
        batches = itertools.chain.from_iterable(shard.batches([column], group) for group in range(len(shard.groups)))
        return {"" if value is None else str(value) for batch in batches for value in batch.column(0).to_pylist()}


def _holds_images(kind: pa.DataType) -> bool:
    import pyarrow.types as kinds

    if kinds.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    return bool(kinds.is_binary(kind) or kinds.is_large_binary(kind))


def _class_names(schema: pa.Schema, label: str) -> list[str] | None:
    """Class names that Hugging Face's `ClassLabel` keeps in the metadata of a schema."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


def _parts(file: Path, part: str, splits: Sequence[str | None], count: int) -> Iterator[str]:
    if not splits:
        yield from itertools.repeat(part, count)
    for row, word in enumerate(splits):
        own = SPLIT_WORDS.get(str(word).lower())
        if own is None:
            allowed = "train, validation, test or unlabeled"
            raise UsageError(f"{file.name}: row {row}: unknown split '{one_line(str(word))}'; allowed: {allowed}")
        yield own


def _images(files: Sequence[Path], starts: Sequence[int], column: str, rows: Rows) -> Iterator[bytes]:
    """Contents of the images of rows, in the order given; empty for a row without an image.

    Ascending rows of a group (a row group of Parquet, a batch of Arrow) are read in one pass over it, in small batches.
    """
    shards = np.searchsorted(starts, rows, "right") - 1
    for own in _runs(shards):
        file, within = files[shards[own.start]], rows[own] - starts[shards[own.start]]
        with opened(file) as shard:
            ends = np.cumsum(shard.groups)
            groups = np.searchsorted(ends, within, "right")
            for run in _runs(groups, within):
                group = int(groups[run.start])
                if group == len(ends):
                    raise CompressError(f"{file} has changed since it was listed; rerun")
                start = int(ends[group]) - shard.groups[group]
                yield from _of_group(shard.batches([column], group), start, within[run].tolist(), column, file)


def _of_group(
    batches: Iterable[pa.RecordBatch], start: int, rows: list[int], column: str, file: Path
) -> Iterator[bytes]:
    wanted = iter(rows)
    row = next(wanted)
    for batch in batches:
        values = batch.column(column)
        while row < start + len(values):
            yield _bytes(values[row - start].as_py(), f"{file}: row {row}")
            row = next(wanted, -1)
            if row < 0:
                return
        start += len(values)


def _runs(groups: Rows, rows: Rows | None = None) -> list[slice]:
    """Longest runs of one group, in which `rows` ascend."""
    ends = np.diff(groups) != 0
    if rows is not None:
        ends |= np.diff(rows) <= 0
    places = [0, *(np.flatnonzero(ends) + 1).tolist(), len(groups)]
    return [slice(*pair) for pair in itertools.pairwise(places)] if len(groups) else []


def _bytes(value: Any, place: str) -> bytes:
    if not isinstance(value, dict):
        return value or b""
    if value["bytes"] is None and value.get("path"):
        raise UsageError(f"{place}: has the path of an image instead of its bytes; use `source: csv` for paths")
    return value["bytes"] or b""


SOURCE = file_source(
    ArrowData, "Parquet files, or a saved Hugging Face dataset, with the images inside", list_arrow, ("pyarrow",)
)
