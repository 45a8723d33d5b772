"""Files of Parquet and Arrow, opened for reading some columns of some rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from compress.data.digests import BLOCK
from compress.data.lazy_shards import open_present
from compress.data.shards import changed_at
from compress.utils.errors import CompressError, first_line

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


@dataclass(frozen=True)
class Shard:
    """An open shard."""

    schema: pa.Schema
    groups: list[int]  # number of rows of each group
    batches: Callable[[list[str], int], Iterable[pa.RecordBatch]]  # read columns of a group, some rows at a time


@contextmanager
def opened(file: Path) -> Iterator[Shard]:
    """Open a file for as long as it is read.

    Raises:
        CompressError: it cannot be read, or is damaged; also while it is read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if file.suffix.lower() == ".parquet":
            with open_present(
                file, lambda file: pq.ParquetFile(file, metadata=_metadata(file, changed_at(file)))
            ) as table:
                metadata = table.metadata
                groups = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
                yield Shard(
                    table.schema_arrow,
                    groups,
                    lambda columns, group: _validated(table.iter_batches(BLOCK, [group], columns)),
                )
        else:
            schema, stored = open_present(file, lambda file: _stream(file, changed_at(file)))
            groups = [len(batch) for batch in stored]
            yield Shard(schema, groups, lambda columns, group: _validated([stored[group].select(columns)]))
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise CompressError(f"{file} cannot be read: {first_line(error)}") from error


@lru_cache(maxsize=4096)
def _metadata(file: Path, changed: int) -> pq.FileMetaData:
    import pyarrow.parquet as pq

    return pq.read_metadata(file)


@lru_cache(maxsize=4096)
def _stream(file: Path, changed: int) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    """Schema and batches of an Arrow file, memory-mapped: nothing but their places is read."""
    import pyarrow as pa

    with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as stream:
        return stream.schema, list(stream)


def _validated(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches whose lengths and offsets are checked, which pyarrow takes from the file unchecked."""
    for batch in batches:
        batch.validate(full=True)
        yield batch
