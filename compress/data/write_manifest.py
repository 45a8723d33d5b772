"""Write the manifest of shards: each is read once, in a stream, and none is kept."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Self

from compress.data.archive import check_end
from compress.data.image_io import ENDINGS
from compress.data.manifest import ENDING, ShardRecord
from compress.data.remote_shards import NoShardsError, list_remote
from compress.data.shards import find_shards
from compress.data.webdataset import SHARDS
from compress.store.shared import SharedFolder
from compress.utils.atomic import write_atomic
from compress.utils.console import task
from compress.utils.errors import CompressError, UsageError, first_line
from compress.utils.urls import check_url, is_url, local_path

PARQUET = ".parquet"
BLOCK = 1 << 22
READERS = 4  # shards at a time


@dataclass(frozen=True)
class _Shard:
    """A shard to describe."""

    where: str  # its URL or absolute path
    split: str
    bytes: int
    etag: str | None
    open: Callable[[], BinaryIO]


def write_manifest(shards: str, output: str) -> list[ShardRecord]:
    """Write the manifest of the tars or Parquet files of a folder, pattern or URL, and return its records.

    Tars are read whole, to count their images; of Parquet files at a URL only the footer.

    Raises:
        CompressError: a shard cannot be read.
        UsageError: there are no shards, or tars and Parquet files, or `output` is not in a folder above them.
    """
    shards, output = local_path(shards), local_path(output)
    for place in filter(is_url, (shards, output)):
        check_url(place)
    if not output.endswith(ENDING):
        raise UsageError(f"{output}: the name of a manifest must end with {ENDING}")
    found = _remote(shards) if is_url(shards) else _local(shards)
    base = output.rpartition("/")[0] if is_url(output) else str(Path(output).absolute().parent)
    if is_url(shards) and not is_url(output):
        base = list_remote(shards, _endings(shards)).url  # to be uploaded there
    names = [_below(base, shard.where) for shard in found]
    with task("reading shards", len(found)) as advance, ThreadPoolExecutor(READERS) as pool:
        records = []
        for record in pool.map(_record, names, found):
            records.append(record)
            advance()
    text = "".join(record.model_dump_json(exclude_none=True) + "\n" for record in records)
    if is_url(output):
        SharedFolder(base).write(output.rpartition("/")[2], text.encode())
    else:
        write_atomic(Path(output), text)
    return records


def _endings(shards: str) -> tuple[str, ...]:
    """Return the extensions of the shards of a URL: of tars, or of Parquet where there are no tars."""
    try:
        list_remote(shards, SHARDS)
    except NoShardsError:
        return (PARQUET,)
    return SHARDS


def _remote(shards: str) -> list[_Shard]:
    listed = list_remote(shards, _endings(shards))
    folder = SharedFolder(listed.url)
    return [
        _Shard(f"{listed.url}/{each.name}", each.part, each.bytes, each.version, partial(folder.open, each.name))
        for each in listed.shards
    ]


def _local(shards: str) -> list[_Shard]:
    found = [(file.absolute(), part) for file, part in find_shards(shards, (*SHARDS, PARQUET))]
    if len({file.suffix.lower() == PARQUET for file, _ in found}) > 1:
        raise UsageError(f"{shards} has tars and Parquet files; name one kind by a pattern, such as {shards}/*.tar")
    return [_Shard(str(file), part, file.stat().st_size, None, partial(_open, file)) for file, part in found]


def _open(file: Path) -> BinaryIO:
    return file.open("rb")


def _below(base: str, where: str) -> str:
    prefix = f"{base.rstrip('/')}/"
    if not where.startswith(prefix):
        raise UsageError(f"the manifest must be in a folder above its shards; write it to {where.rpartition('/')[0]}/")
    return where.removeprefix(prefix)


def _record(name: str, shard: _Shard) -> ShardRecord:
    sha256: str | None = None
    with _readable(shard.where), shard.open() as stream:
        if name.lower().endswith(PARQUET):
            images = _rows(stream)
            if shard.etag is None:
                stream.seek(0)
                hashed = _Hashed(stream)
                hashed.drain()
                sha256 = hashed.sha256.hexdigest()
        else:
            hashed = _Hashed(stream)
            images = sum(_images(hashed))
            hashed.drain()
            sha256 = hashed.sha256.hexdigest()
    return ShardRecord.model_validate(
        {"file": name, "images": images, "bytes": shard.bytes, "sha256": sha256, "etag": shard.etag}
        | {"split": shard.split}
    )


def _rows(stream: BinaryIO) -> int:
    import pyarrow.parquet as pq

    return int(pq.ParquetFile(stream).metadata.num_rows)


def _images(stream: _Hashed) -> Iterator[bool]:
    """Yield for each member of a tar whether it is an image; a tar without an end is refused, as its reader does."""
    last = b""

    class Header(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
            nonlocal last
            last = bytes(buf)
            return super().frombuf(buf, encoding, errors)

    with tarfile.open(fileobj=io.BufferedReader(stream, BLOCK), mode="r|*", tarinfo=Header) as archive:
        for member in archive:
            stem, _, kind = member.name.rpartition("/")[2].partition(".")
            yield member.isreg() and stem != "" and f".{kind.lower()}" in ENDINGS
        check_end(last, archive.offset)


class _Hashed(io.RawIOBase):
    """A stream whose bytes are hashed as they are read."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.sha256 = stream, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self.stream.read(len(buffer))
        buffer[: len(data)] = data
        self.sha256.update(data)
        return len(data)

    def drain(self) -> None:
        """Read to the end."""
        while self.read(BLOCK):
            pass


@contextmanager
def _readable(where: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise CompressError(f"{where} cannot be read: {first_line(error)}") from error
