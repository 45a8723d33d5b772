"""Find truncated image files by their ends, for a small part of the time that decoding all of them takes."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from compress.data.image_io import BrokenImage, check_header, damage, try_decode

END = 1024  # bytes at the end of a file that are read: cards and recovery tools append zeros


def check_whole(image: Path | bytes, side: int, max_pixels: int | None = None) -> BrokenImage | None:
    """Return why a file is not an image: as far as its header shows, or that it is truncated.

    Only files that do not end as whole ones of their format do are decoded, and those of formats without such an end.

    Raises:
        CompressError: the file cannot be read.
    """
    broken = check_header(image, max_pixels=max_pixels)
    if broken or has_end(image):
        return broken
    decoded = try_decode(image, side, draft=True, max_pixels=max_pixels)
    return decoded if isinstance(decoded, BrokenImage) else None


def has_end(image: Path | bytes) -> bool:
    """Whether a JPEG, PNG, GIF or WebP ends as whole ones do; False for other formats, whose ends have no mark.

    Raises:
        CompressError: the file cannot be read.
    """
    if isinstance(image, bytes):
        return _has_end(BytesIO(image))
    with damage(str(image)), image.open("rb", buffering=0) as file:
        return _has_end(file)


def _has_end(file: BinaryIO) -> bool:
    start = file.read(12)
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - END))
    end = file.read(END).rstrip(b"\0")
    if start.startswith(b"\xff\xd8"):
        return end.endswith(b"\xff\xd9")  # which within the image data is in no place, but at the end of a thumbnail
    if start.startswith(b"\x89PNG"):
        return end.endswith(b"IEND\xaeB`\x82")
    if start.startswith(b"GIF8"):
        return end.endswith(b";")
    if start.startswith(b"RIFF") and start[8:] == b"WEBP":
        return size >= 8 + int.from_bytes(start[4:8], "little")
    return False
