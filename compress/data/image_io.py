"""Decode one image file of any format to pixels."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image, ImageOps

from compress.data.geometry import Geometry
from compress.data.source import Pixels
from compress.utils.errors import CompressError, first_line
from compress.utils.system import version_of

ENDINGS = frozenset(
    (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".avif")
)
DECODERS = ("pillow",)
"""Packages that images are decoded and resized by."""
HUGE = 89_478_485  # pixels; PIL warns of more
DRAFT_GAP = 2  # sides that an image keeps at least when the JPEG decoder halves it, so that the resize stays the filter
UNKNOWN_RANGE = "floating-point pixels of unknown range"
_UNNAMED = re.compile(r"<_io\.BytesIO object at 0x[0-9a-f]+>")


def decoder_versions() -> dict[str, str]:
    """Return the releases of `DECODERS`, which are part of the keys of everything that is decoded from files.

    Pillow changes pixels in feature releases (`13.0`): the order of its resizes, the codecs that its wheels have. Those
    of one feature release (`13.0.1`) fix security and builds; decoding a data set again and training all networks anew
    for each would cost more than it guards against.
    """
    return {name: ".".join(str(version_of(name)).split(".")[:2]) for name in DECODERS}


class BrokenImage(Exception):
    """A file is not an image; the message says why."""


class TooManyPixels(BrokenImage):
    """An image has more pixels than may be decoded."""


def is_file(path: Path) -> bool:
    """Whether a file exists; False for a name that no file can have, a `CompressError` if the system refuses."""
    return _query(path, Path.is_file)


def is_folder(path: Path) -> bool:
    """Whether a folder exists; see `is_file`."""
    return _query(path, Path.is_dir)


def exists(path: Path) -> bool:
    """Whether a file or folder exists; see `is_file`."""
    return _query(path, Path.exists)


def _query(path: Path, test: Callable[[Path], bool]) -> bool:
    try:
        return test(path)
    except ValueError:  # a null character, or bytes that are not text
        return False
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise CompressError(f"{path} cannot be read: {error.strerror}") from error


def decode(image: Path | bytes, to: int | Geometry, *, draft: bool = False, max_pixels: int | None = None) -> Pixels:
    """Decode an image (file or content) to uint8 `[3, side, side]`.

    Args:
        image: The file, or its content.
        to: A side, to which the largest centred square is scaled by antialiased bicubic interpolation, or what to do
            instead. The EXIF orientation is applied before; of an animation, the first frame is taken. Transparent
            images are laid on white, as a web page shows them, since the colours under the transparency are arbitrary.
        draft: Let the JPEG decoder halve an image once to three times while more than twice the side remains, which is
            several times as fast. Always done for more than `HUGE` pixels.
        max_pixels: Largest number of pixels; None for PIL's limit, twice its `MAX_IMAGE_PIXELS`.

    Raises:
        BrokenImage: the image cannot be decoded or is truncated; `TooManyPixels` if it has too many.
        CompressError, MemoryError: see `open_image`.
    """
    with open_image(image, max_pixels) as opened:
        side = to.resize if isinstance(to, Geometry) else to
        short = min(opened.size)
        if short >= 2 * DRAFT_GAP * side and (draft or opened.width * opened.height > HUGE):
            opened.draft(None, (DRAFT_GAP * side, DRAFT_GAP * side))
        return pixels_of(opened, to)


def try_decode(
    image: Path | bytes, to: int | Geometry, *, draft: bool = False, max_pixels: int | None = None
) -> Pixels | BrokenImage:
    """Decode an image as `decode` does; return the reason where it is not one."""
    try:
        return decode(image, to, draft=draft, max_pixels=max_pixels)
    except BrokenImage as error:
        return error


def check_header(image: Path | bytes, *, max_pixels: int | None = None) -> BrokenImage | None:
    """Return why a file is not an image, as far as its header shows."""
    try:
        with open_image(image, max_pixels) as opened:
            if opened.mode == "F":
                raise BrokenImage(UNKNOWN_RANGE)
    except BrokenImage as error:
        return error
    return None


@contextmanager
def open_image(image: Path | bytes, max_pixels: int | None = None) -> Iterator[Image.Image]:
    """Open an image; its size and mode are known, its pixels are read on demand.

    Raises:
        BrokenImage: see `decode`; also raised for errors in the body of the `with` statement.
        CompressError: the file cannot be read.
        MemoryError: there is too little memory.
    """
    if image == b"":
        raise BrokenImage("it is empty")
    with (
        damage(None if isinstance(image, bytes) else str(image)),
        pixel_limit(max_pixels) if max_pixels else nullcontext(),
        Image.open(BytesIO(image) if isinstance(image, bytes) else image) as opened,
    ):
        if max_pixels and opened.width * opened.height > max_pixels:
            raise TooManyPixels(f"{opened.width} x {opened.height} pixels are more than {max_pixels:,}")
        yield opened


@contextmanager
def damage(name: str | None = None) -> Iterator[None]:
    """Turn what PIL raises on damaged bytes into a `BrokenImage`, in whose reason an image `name` is "it".

    The file may be a fine image if the system fails: that is never a `BrokenImage`.

    Raises:
        CompressError: the file cannot be read.
        MemoryError: there is too little memory.
    """
    try:
        yield
    except (BrokenImage, CompressError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise TooManyPixels(first_line(error).partition(", could")[0]) from error
    except Exception as error:  # PIL's decoders raise a dozen kinds of exception on damaged bytes
        # PIL's own have no number; an offset in a damaged file may be one that the system does not seek
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL, errno.EOVERFLOW):
            raise CompressError(f"{name or 'the image'} cannot be read: {error.strerror}") from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = reason.replace(repr(name), "it") if name else reason
        raise BrokenImage(_UNNAMED.sub("it", reason)) from error


class _PixelLimit:
    """PIL's limit, one for the whole process: the largest that a thread needs now, and PIL's own when none does."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._needed: list[int] = []
        self._own: int | None = None

    def need(self, limit: int) -> None:
        with self._lock:
            if not self._needed:
                self._own = Image.MAX_IMAGE_PIXELS
            self._needed.append(limit)
            self._set()

    def release(self, limit: int) -> None:
        with self._lock:
            if limit in self._needed:  # not in a process that was forked meanwhile
                self._needed.remove(limit)
            self._set()

    def _set(self) -> None:
        Image.MAX_IMAGE_PIXELS = None if self._own is None else max(self._own, *self._needed, 0)

    def reset(self) -> None:
        """Forget what threads need that a fork left behind, one of which may have held the lock."""
        if self._needed:
            Image.MAX_IMAGE_PIXELS = self._own
        self._lock, self._needed = Lock(), []


_LIMIT = _PixelLimit()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_LIMIT.reset)


@contextmanager
def pixel_limit(max_pixels: int) -> Iterator[None]:
    """Let PIL open images of at least so many pixels until the end of the `with` statement, in any thread."""
    limit = (max_pixels + 1) // 2  # PIL refuses more than twice its limit
    _LIMIT.need(limit)
    try:
        yield
    finally:
        _LIMIT.release(limit)


def pixels_of(image: Image.Image, to: int | Geometry) -> Pixels:
    """Return the pixels of an open image as `decode` does.

    Raises:
        BrokenImage: the range of its values is unknown. PIL's own errors pass through if it is decoded only now.
    """
    if image.mode == "I" and image.format == "TIFF" and 0 < np.asarray(image).max() <= 0xFF:
        raise BrokenImage("8-bit grey values in 32 bits, which would be black if they were read as 16 bits")
    upright = _rgb(ImageOps.exif_transpose(image))
    return to.render(upright) if isinstance(to, Geometry) else np.asarray(_square(upright, to)).transpose(2, 0, 1)


def _square(image: Image.Image, side: int) -> Image.Image:
    """Scale the centred square to `side`, cropping first, so that a sliver does not become huge."""
    short = min(image.size)
    left, top = (image.width - short) / 2, (image.height - short) / 2
    if image.size == (side, side):
        return image
    return image.resize((side, side), Image.Resampling.BICUBIC, box=(left, top, left + short, top + short))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _sixteen_bits(image).convert("RGB")
    if image.mode == "F":
        raise BrokenImage(UNKNOWN_RANGE)
    if image.mode in ("RGBA", "LA", "La", "PA", "RGBa") or "transparency" in image.info:
        colour = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour).convert("RGB")
    return image.convert("RGB")


def _sixteen_bits(image: Image.Image) -> Image.Image:
    """Convert 16-bit grey (`I;16`, or `I` where PIL widens it) to 8 bits; PIL's own conversion clips it to white."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise BrokenImage("grey values outside of 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))
