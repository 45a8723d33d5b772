from __future__ import annotations

import errno
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compress.data.image_io import BrokenImage, TooManyPixels, decode, open_image, pixel_limit, try_decode
from compress.recipe.data import FileData
from compress.utils.errors import CompressError


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def gradient(width: int = 16, height: int = 16) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 255 // height, columns * 255 // width, rows * 0 + 90], -1).astype(np.uint8)


def test_colour_is_kept_as_it_is(tmp_path):
    assert np.array_equal(decode(save(tmp_path / "a.png", gradient()), 16), gradient().transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("name", "mode", "near"),
    [("a.png", "L", 1), ("a.png", "P", 40), ("a.gif", "P", 40), ("a.tif", "CMYK", 1), ("a.png", "1", 255)],
)
def test_other_modes(tmp_path, name, mode, near):
    expected = np.asarray(Image.fromarray(gradient()).convert("L" if mode in ("L", "1") else "RGB").convert("RGB"))
    found = decode(save(tmp_path / name, gradient(), mode), 16)
    assert np.abs(found.transpose(1, 2, 0).astype(int) - expected).max() <= near


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(values).save(tmp_path / name)
        assert np.abs(decode(tmp_path / name, 16)[0].astype(int) - np.arange(256).reshape(16, 16)).max() <= 1


def test_transparency_is_laid_on_white(tmp_path):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:4] = (200, 0, 0, 255)
    found = decode(save(tmp_path / "a.png", pixels), 8)
    assert found[:, 0, 0].tolist() == [200, 0, 0] and found[:, 7, 7].tolist() == [255, 255, 255]
    palette = Image.fromarray(pixels[..., :3]).convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
    palette.save(tmp_path / "b.png", transparency=palette.getpixel((7, 7)))
    assert decode(tmp_path / "b.png", 8)[:, 7, 7].tolist() == [255, 255, 255]


def test_exif_rotation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    save(tmp_path / "a.png", gradient(), exif=exif)
    assert np.array_equal(decode(tmp_path / "a.png", 16).transpose(1, 2, 0), np.rot90(gradient(), -1))


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert decode(tmp_path / "a.gif", 8)[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(("size", "side"), [((40, 20), 10), ((20, 40), 10), ((7, 5), 24), ((3000, 1), 8)])
def test_the_centred_square_is_scaled(tmp_path, size, side):
    pixels = gradient(*size)
    found = decode(save(tmp_path / "a.png", pixels), side).transpose(1, 2, 0).astype(int)
    short = min(size)
    left, top = (size[0] - short) // 2, (size[1] - short) // 2
    square = Image.fromarray(pixels[top : top + short, left : left + short])
    expected = np.asarray(square.resize((side, side), Image.Resampling.BICUBIC)).astype(int)
    assert found.shape == (side, side, 3) and np.abs(found - expected).max() <= 18  # half a pixel of the gradient


def test_antialiasing(tmp_path):
    stripes = np.tile(np.array([[[0] * 3, [255] * 3]], np.uint8), (64, 32, 1))
    assert np.abs(decode(save(tmp_path / "a.png", stripes), 8).astype(int) - 127).max() < 20


@pytest.mark.parametrize("cut", [0, 1, 30, 200])
def test_broken_files(tmp_path, cut):
    for name in ("a.jpg", "a.png", "a.webp", "a.bmp"):
        whole = save(tmp_path / name, np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).read_bytes()
        (tmp_path / name).write_bytes(whole[:cut])
        with pytest.raises(BrokenImage):
            decode(tmp_path / name, 16)


def test_text_and_float_pixels_and_bombs_are_broken(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_text("no image")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "f.tif")
    save(tmp_path / "b.png", gradient())
    for name, says in (("a.png", "cannot identify"), ("f.tif", "unknown range"), ("b.png", "more than 200")):
        with pytest.raises(BrokenImage, match=says):
            decode(tmp_path / name, 8, max_pixels=200)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(BrokenImage, match=r"256 pixels.* exceeds limit of 200 pixels"):
        decode(tmp_path / "b.png", 8)


def test_grey_values_of_8_bits_in_32_are_refused_as_they_would_be_black(tmp_path):
    for top, fine in ((255, False), (256, True), (65535, True), (0, True)):
        values = np.linspace(0, top, 256).astype(np.int32).reshape(16, 16)
        Image.fromarray(values).save(tmp_path / "a.tif")
        if fine:
            assert decode(tmp_path / "a.tif", 16).max() == (top + 128) // 257
        else:
            with pytest.raises(BrokenImage, match="8-bit grey values in 32 bits, which would be black"):
                decode(tmp_path / "a.tif", 16)


@pytest.mark.parametrize("of", [Image, Image.Image], ids=["open", "load"])
@pytest.mark.parametrize("name", ["EACCES", "EIO", "ENOMEM", "ESTALE", "ETIMEDOUT", "ENOTCONN", "EREMOTEIO", "ELOOP"])
def test_the_systems_refusal_is_not_a_broken_image(tmp_path, monkeypatch, of, name):
    file = save(tmp_path / "a.png", gradient())
    number = getattr(errno, name)

    def refuse(*args, **more):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(of, "open" if of is Image else "resize", refuse)
    with pytest.raises(CompressError, match=rf"a.png cannot be read: {re.escape(os.strerror(number))}"):
        try_decode(file, 8)


def test_too_little_memory_is_not_a_broken_image(tmp_path, monkeypatch):
    file = save(tmp_path / "a.png", gradient())

    def refuse(*args, **more):
        raise MemoryError

    for of, name in ((Image.Image, "resize"), (Image, "open")):
        monkeypatch.setattr(of, name, refuse)
        for picture in (file, file.read_bytes()):
            with pytest.raises(MemoryError):
                try_decode(picture, 8)


def test_pils_limit_is_raised_while_an_image_is_open_and_no_longer(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    first, second = (open_image(save(tmp_path / "a.png", gradient()), limit) for limit in (300, 1000))
    with first:
        with second as opened:
            assert Image.MAX_IMAGE_PIXELS == 500
        assert Image.MAX_IMAGE_PIXELS == 150
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(BrokenImage, match="cannot identify"), open_image(b"no image", 1000):
        pass
    assert Image.MAX_IMAGE_PIXELS == 100 and opened.size == (16, 16)


def test_threads_that_need_other_limits_end_with_pils_own(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    image = save(tmp_path / "a.png", gradient(40, 40))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda limit: try_decode(image, 8, max_pixels=limit), [1600, 2000, 1599, 5000] * 50))
    assert [isinstance(each, TooManyPixels) for each in found] == [False, False, True, False] * 50
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_has_pils_own_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pixel_limit(1000):
        child = os.fork()
        if child == 0:
            os._exit(Image.MAX_IMAGE_PIXELS)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 100


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_photos_of_a_hundred_megapixels_are_read(tmp_path, name):
    Image.new("RGB", (12_000, 9_000), (200, 100, 50)).save(tmp_path / name)
    found = decode(tmp_path / name, 16, max_pixels=FileData.model_fields["max_pixels"].default)
    assert found.shape == (3, 16, 16) and np.abs(found[:, 8, 8].astype(int) - (200, 100, 50)).max() <= 3
