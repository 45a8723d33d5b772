"""Tar files, read from front to end and never unpacked, in bounded time and memory whatever they say of themselves."""

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

from compress.utils.errors import CompressError, first_line

PACKED: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
MAX_RATIO = 200
"""Times its own size that a packed tar may hold: images that are worth a name hardly shrink at all."""
ALWAYS = 2**28  # bytes that any may hold


class _Bounded:
    """A stream that has no more than so many bytes; a packed one that has more is refused."""

    def __init__(self, stream: BinaryIO, limit: int, packed: bool) -> None:
        self.stream, self.limit, self.packed = stream, limit, packed

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
        if self.packed and place > self.limit:
            raise CompressError(f"it holds more than {self.limit:,} bytes, {MAX_RATIO} times what it takes")


@dataclass(frozen=True)
class Archive:
    """An open tar file."""

    file: Path
    tar: tarfile.TarFile

    def members(self) -> Iterator[tarfile.TarInfo]:
        """All members in order, whatever they are.

        Raises:
            CompressError: one is damaged.
        """
        end = -1
        while True:
            with _readable(self.file):
                member = self.tar.next()
            if member is None:
                return
            if self.tar.offset <= end:  # of a negative size, which leads back
                raise CompressError(f"{self.file} cannot be read: a member has the size {member.size:,}")
            end = self.tar.offset
            yield member

    def content(self, member: tarfile.TarInfo) -> bytes:
        """Bytes of a member.

        Raises:
            CompressError: it is damaged, or a sparse file, which may be far larger than its archive.
        """
        with _readable(self.file):
            found = None if member.issparse() else self.tar.extractfile(member)
            if found is None:
                raise CompressError(f"{member.name} is no plain file")
            return found.read()

    def check_end(self) -> None:
        """Python's tarfile takes a damaged header for the end of the archive; the real end is a block of zeros.

        Raises:
            CompressError: it is not there.
        """
        assert self.tar.fileobj is not None
        with _readable(self.file):
            self.tar.fileobj.seek(self.tar.offset)
            end = self.tar.fileobj.read(tarfile.BLOCKSIZE)
        if end != bytes(tarfile.BLOCKSIZE):
            raise CompressError(f"{self.file} cannot be read: it is damaged or cut off at byte {self.tar.offset:,}")


@contextmanager
def opened(file: Path) -> Iterator[Archive]:
    """The open archive; gzip, bzip2 and xz are told by their first bytes.

    Raises:
        CompressError: it is no tar file, or cannot be read.
    """
    with _readable(file):
        with file.open("rb") as plain:
            start = plain.read(6)
        unpack = next((unpack for mark, unpack in PACKED.items() if start.startswith(mark)), None)
        size = file.stat().st_size
        stream = unpack(file) if unpack else file.open("rb")
    with stream:
        bounded: Any = _Bounded(stream, max(ALWAYS, MAX_RATIO * size) if unpack else size, unpack is not None)
        with _readable(file):
            tar = tarfile.TarFile(fileobj=bounded, mode="r")
        yield Archive(file, tar)


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Damaged bytes become one kind of error: tarfile and the unpackers meet them with a dozen kinds."""
    try:
        yield
    except Exception as error:
        raise CompressError(f"{file} cannot be read: {first_line(error)}") from error
