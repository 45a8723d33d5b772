"""One image file to pixels, whatever its kind."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from compress.data.source import Pixels
from compress.utils.errors import CompressError

ENDINGS = frozenset(
    (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".avif")
)
# The system's own complaints: the file may be a fine image, so it is never skipped for them.
SYSTEM = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM)

_UNNAMED = re.compile(r"<_io\.BytesIO object at 0x[0-9a-f]+>")


class BrokenImage(Exception):
    """A file is no image; the text says why."""


def is_file(path: Path) -> bool:
    """Whether there is such a file; there is none of a name that no file can have.

    Raises:
        CompressError: the system does not tell.
    """
    return _told(path, Path.is_file)


def is_folder(path: Path) -> bool:
    """Whether there is such a folder, as `is_file`."""
    return _told(path, Path.is_dir)


def exists(path: Path) -> bool:
    """Whether there is anything of this name, as `is_file`."""
    return _told(path, Path.exists)


def _told(path: Path, ask: Callable[[Path], bool]) -> bool:
    try:
        return ask(path)
    except ValueError:  # it holds a null character, or what is no text
        return False
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise CompressError(f"{path} cannot be read: {error.strerror}") from error


def decode(image: Path | bytes, side: int) -> Pixels:
    """Pixels uint8 `[3, side, side]` of the largest centred square, scaled by antialiased bicubic interpolation.

    It is turned as its EXIF says; of an animation it is the first frame.
    Transparent images are laid on white, as a page or a shop shows them; what lies under the transparency is chance.

    Args:
        image: a file, or what stands in one.
        side: of the square, in pixels.

    Raises:
        BrokenImage: it cannot be decoded, is truncated, or has more pixels than PIL deems safe.
        CompressError: the system does not let it be read.
    """
    with opened(image) as found:
        return pixels_of(found, side)


@contextmanager
def opened(image: Path | bytes) -> Iterator[Image.Image]:
    """The open image, whose size and mode are known and whose pixels are read on demand.

    Raises:
        BrokenImage: as `decode`, also for what is done to the image while it is open.
        CompressError: the system does not let it be read.
    """
    if image == b"":
        raise BrokenImage("it is empty")
    try:
        with Image.open(BytesIO(image) if isinstance(image, bytes) else image) as found:
            if Image.MAX_IMAGE_PIXELS and found.width * found.height > Image.MAX_IMAGE_PIXELS:
                raise BrokenImage(f"{found.width} x {found.height} pixels are more than {Image.MAX_IMAGE_PIXELS:,}")
            yield found
    except BrokenImage:
        raise
    except Exception as error:  # PIL's decoders meet damaged bytes with a dozen kinds of exception
        if isinstance(error, OSError) and error.errno in SYSTEM:
            raise CompressError(f"{image!s} cannot be read: {error.strerror}") from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BrokenImage(_UNNAMED.sub("it", reason.replace(repr(str(image)), "it"))) from error


def pixels_of(image: Image.Image, side: int) -> Pixels:
    """The same pixels of an image that is open already.

    Raises:
        BrokenImage: its values have no known range. PIL's own errors come through where it is decoded only now.
    """
    return np.asarray(_square(_rgb(ImageOps.exif_transpose(image)), side)).transpose(2, 0, 1)


def _square(image: Image.Image, side: int) -> Image.Image:
    """Scale the centred square to `side`. The square is cut first, so that a sliver does not become a giant."""
    short = min(image.size)
    left, top = (image.width - short) / 2, (image.height - short) / 2
    if image.size == (side, side):
        return image
    return image.resize((side, side), Image.Resampling.BICUBIC, box=(left, top, left + short, top + short))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _sixteen_bits(image).convert("RGB")
    if image.mode == "F":
        raise BrokenImage("floating-point pixels have no known range")
    if image.mode in ("RGBA", "LA", "La", "PA", "RGBa") or "transparency" in image.info:
        colour = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour).convert("RGB")
    return image.convert("RGB")


def _sixteen_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits (`I;16`, and `I` where PIL widens it) to 8. PIL's own conversion would clip it to white."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise BrokenImage("grey values lie outside 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))
