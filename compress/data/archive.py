"""Tar files, read without unpacking, in bounded time and memory whatever their headers claim."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from compress.data.lazy_shards import open_present
from compress.utils.errors import CompressError, first_line

DECOMPRESSORS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
MAX_RATIO = 200  # largest ratio of the size of a decompressed tar to its own: images hardly shrink at all
MIN_LIMIT = 2**28  # bytes that any decompressed tar may have


class _Bounded:
    """A stream that ends after `limit` bytes; a compressed one that has more is refused."""

    def __init__(self, stream: BinaryIO, limit: int, compressed: bool) -> None:
        self.stream, self.limit, self.compressed = stream, limit, compressed

    def tell(self) -> int:
        return self.stream.tell()

    def seek(self, place: int) -> int:
        self._check(place)
        return self.stream.seek(min(place, self.limit))

    def read(self, size: int) -> bytes:
        left = self.limit - self.tell()
        data = self.stream.read(max(0, min(size, left)))
        self._check(self.tell() + (size > left == len(data)))
        return data

    def _check(self, place: int) -> None:
        if self.compressed and place > self.limit:
            raise CompressError(f"it decompresses to more than {self.limit:,} bytes, {MAX_RATIO} times its size")


Place = tuple[int, int]  # first byte, of the decompressed tar, and number of bytes


@dataclass(frozen=True)
class Archive:
    """An open tar file."""

    file: Path
    tar: tarfile.TarFile
    stream: BinaryIO

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Yield all members in order, of any type; a damaged one is a `CompressError`."""
        end = -1
        while True:
            with _readable(self.file):
                member = self.tar.next()
            if member is None:
                return
            if self.tar.offset <= end:  # a negative size would lead back
                raise CompressError(f"{self.file} cannot be read: a member has the size {member.size:,}")
            end = self.tar.offset
            yield member

    def place(self, member: tarfile.TarInfo) -> Place:
        """Return where the bytes of a member are.

        Raises:
            CompressError: the member is not a file, or a sparse one, which may be far larger than its archive.
        """
        if not member.isreg() or member.issparse():
            raise CompressError(f"{self.file} cannot be read: {member.name} is not a plain file")
        return member.offset_data, member.size

    def content(self, member: tarfile.TarInfo) -> bytes:
        """Read a member; one that is damaged or not a plain file is a `CompressError`."""
        return read_at(self.file, self.stream, self.place(member))

    def check_end(self) -> None:
        """Raise a `CompressError` unless the archive ends with zeros: tarfile takes a damaged header for its end."""
        assert self.tar.fileobj is not None
        with _readable(self.file):
            self.tar.fileobj.seek(self.tar.offset)
            check_end(self.tar.fileobj.read(tarfile.BLOCKSIZE), self.tar.offset)


def check_end(block: bytes, offset: int) -> None:
    """Raise a `CompressError` unless the block after the last member of an archive is one of zeros."""
    if block != bytes(tarfile.BLOCKSIZE):
        raise CompressError(f"it is damaged or cut off at byte {offset:,}")


@contextmanager
def open_archive(file: Path) -> Iterator[Archive]:
    """Open a tar file; gzip, bzip2 and xz are recognised by their first bytes.

    Raises:
        CompressError: the file is not a tar file, or cannot be read.
    """
    with open_stream(file) as stream:
        with _readable(file):
            tar = tarfile.TarFile(fileobj=stream, mode="r")
        yield Archive(file, tar, stream)


def read_at(file: Path, stream: BinaryIO, place: Place) -> bytes:
    """Read the bytes at a place of a `stream` of the tar `file`; a `CompressError` if it ends before."""
    offset, size = place
    with _readable(file):
        stream.seek(offset)
        data = stream.read(size)
        if len(data) < size:
            raise CompressError(f"it ends within the {size:,} bytes at {offset:,}")
    return data


@contextmanager
def open_stream(file: Path) -> Iterator[BinaryIO]:
    """Open a tar file, decompressed if it is compressed; going backwards in it then starts again from the front."""
    with _readable(file):
        stream, limit, compressed = open_present(file, _open)
    with stream:
        bounded: Any = _Bounded(stream, limit, compressed)
        yield bounded


def _open(file: Path) -> tuple[BinaryIO, int, bool]:
    """Return a stream of a tar, the bytes that it may have, and whether it is compressed."""
    with file.open("rb") as plain:
        start = plain.read(6)
    unpack = next((unpack for mark, unpack in DECOMPRESSORS.items() if start.startswith(mark)), None)
    size = file.stat().st_size
    return (unpack(file), max(MIN_LIMIT, MAX_RATIO * size), True) if unpack else (file.open("rb"), size, False)


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Turn the dozen kinds of exception that tarfile and decompressors raise on damaged bytes into one."""
    try:
        yield
    except Exception as error:
        raise CompressError(f"{file} cannot be read: {first_line(error)}") from error
