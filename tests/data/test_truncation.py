"""Truncated files are known by their ends; whole ones are not decoded for that."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compress.data import truncation
from compress.data.image_io import BrokenImage
from compress.data.truncation import check_whole, has_end

MARKED = ("JPEG", "PNG", "GIF", "WEBP")
OTHERS = ("BMP", "TIFF", "PPM")


def encoded(kind: str, **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    Image.fromarray(pixels).save(file := BytesIO(), kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", [*MARKED, *OTHERS])
def test_whole_files_of_formats_with_an_end_are_not_decoded(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[object] = []
    try_decode = truncation.try_decode
    monkeypatch.setattr(truncation, "try_decode", lambda *args, **more: decoded.append(1) or try_decode(*args, **more))
    file = tmp_path / "a"
    file.write_bytes(encoded(kind))
    assert check_whole(file, 16) is None and check_whole(file.read_bytes(), 16) is None
    assert len(decoded) == (0 if kind in MARKED else 2)


@pytest.mark.parametrize("kind", [*MARKED, *OTHERS])
@pytest.mark.parametrize("cut", [0.3, 0.7, 0.98])
def test_truncated_files_are_found(kind: str, cut: float, tmp_path: Path) -> None:
    content = encoded(kind)
    file = tmp_path / "a"
    file.write_bytes(content[: int(len(content) * cut)])
    assert isinstance(check_whole(file, 16), BrokenImage)
    assert isinstance(check_whole(file.read_bytes(), 16), BrokenImage)


@pytest.mark.parametrize("kind", MARKED)
@pytest.mark.parametrize(("more", "known"), [(bytes(100), True), (b"a note", False)], ids=["zeros", "a note"])
def test_what_is_appended_breaks_no_image(kind: str, more: bytes, known: bool) -> None:
    content = encoded(kind) + more
    assert has_end(content) is (known or kind == "WEBP")
    assert check_whole(content, 16) is None


def test_a_progressive_jpeg_with_a_thumbnail() -> None:
    exif = Image.Exif()
    exif[0x9286] = encoded("JPEG")  # a whole JPEG within the header
    content = encoded("JPEG", progressive=True, exif=exif)
    assert has_end(content)
    for cut in range(2, len(content), 7):
        assert isinstance(check_whole(content[:-cut], 16), BrokenImage)
