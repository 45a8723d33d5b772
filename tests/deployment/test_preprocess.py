"""Preprocessing by numpy and Pillow equals the pipeline's in torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deployment.tiny_classifier import PREPROCESS
from PIL import Image

from compress.data.image_io import decode
from compress.data.preprocess import Preprocess
from compress.deployment.preprocess import Inputs, decode_blocks
from compress.deployment.preprocess_file import read_inputs
from compress.utils.errors import CompressError, UsageError

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


def photo(width: int, height: int, seed: int = 0) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    waves = 110 + 90 * np.sin(rows / 7)[..., None] * np.cos(columns[..., None] / (5, 9, 13))
    return (waves + np.random.default_rng(seed).normal(0, 20, waves.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = []
    for number, size in enumerate([(48, 48), (90, 61), (33, 120), (48, 49)]):
        paths.append(tmp_path / f"{number}.{'jpg' if number % 2 else 'png'}")
        Image.fromarray(photo(*size, seed=number)).save(paths[-1])
    return paths


def pipeline(files: list[Path], preprocess: Preprocess, side: int) -> np.ndarray:
    """As a run does it: decoded at the data's side, then what the network's preprocessing makes of the batch."""
    return preprocess(torch.from_numpy(np.stack([decode(file, side) for file in files]))).numpy()


def test_the_same_bits_at_the_side_of_the_data(files: list[Path]) -> None:
    found = Inputs(48, MEAN, STD, "bicubic", 48)(files)
    assert found.dtype == np.float32 and found.shape == (4, 3, 48, 48) and found.flags.c_contiguous
    assert np.array_equal(found, pipeline(files, Preprocess(48, MEAN, STD), 48))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resolution", [32, 80])
def test_the_same_but_for_rounding_at_another_side(files: list[Path], interpolation: Any, resolution: int) -> None:
    found = Inputs(resolution, MEAN, STD, interpolation, 48)(files)
    expected = pipeline(files, Preprocess(resolution, MEAN, STD, interpolation), 48)
    levels = np.abs(found - expected) * np.array(STD).reshape(3, 1, 1) * 255
    assert levels.max() <= 1.01 and levels.mean() <= 0.05


def test_pixels_images_and_files_are_the_same(files: list[Path]) -> None:
    inputs = Inputs(24, MEAN, STD, "bicubic", 24)
    lossless = files[::2]
    opened = [Image.open(file) for file in lossless]
    expected = inputs(lossless)
    assert np.array_equal(inputs(opened), expected)
    assert np.array_equal(inputs([np.asarray(image) for image in opened]), expected)
    assert inputs([]).shape == (0, 3, 24, 24)


@pytest.mark.parametrize("pixels", [np.zeros((8, 8, 3)), np.zeros((8, 8), np.uint8), np.zeros((3, 8, 8), np.uint8)])
def test_other_pixels_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"pixels must be uint8 \[height, width, 3\], not"):
        Inputs(8, MEAN, STD, "bicubic", 8)([pixels])


def test_damaged_files_keep_their_places(files: list[Path]) -> None:
    files[1].write_bytes(files[1].read_bytes()[:200])
    files[2].write_text("no image")
    blocks = list(decode_blocks(Inputs(16, MEAN, STD, "bicubic", 16), files, 3))
    assert [block.rows for block in blocks] == [(0,), (3,)]
    assert [sorted(block.broken) for block in blocks] == [[1, 2], []]
    assert [block.pixels.shape for block in blocks] == [(1, 3, 16, 16)] * 2


def test_the_file_of_an_export_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "preprocess.json").write_text(json.dumps(PREPROCESS), encoding="utf-8")
    inputs, classes = read_inputs(tmp_path)
    assert inputs == Inputs(16, (0.5,) * 3, (0.25,) * 3, "bilinear", 16)
    assert classes == tuple(PREPROCESS["classes"])
    (tmp_path / "preprocess.json").write_text(json.dumps({**PREPROCESS, "stored_resolution": 96}), encoding="utf-8")
    assert read_inputs(tmp_path)[0].stored_resolution == 96


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resolution": 0}, "resolution must be a side in pixels, not 0"),
        ({"resolution": True}, "resolution must be a side"),
        ({"mean": [0.5]}, r"mean must be three numbers, not \[0.5\]"),
        ({"mean": [0.5, 0.5, 10**400]}, "too large"),
        ({"std": [0.1, float("nan"), 0.1]}, "std must be three numbers"),
        ({"std": [0.1, 0, 0.1]}, "std must be positive"),
        ({"interpolation": "area"}, "interpolation must be one of bicubic, .*, not 'area'"),
        ({"classes": []}, "classes must be a list of names"),
        ({"classes": ["cat", "cat"]}, "class names must be unique"),
    ],
)
def test_impossible_values_are_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    (tmp_path / "preprocess.json").write_text(json.dumps({**PREPROCESS, **change}))
    with pytest.raises(CompressError, match=f"preprocess.json is damaged: .*{words}"):
        read_inputs(tmp_path)


def test_missing_and_damaged_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match=r"has no preprocess.json, which the export writes beside the model"):
        read_inputs(tmp_path)
    for text, words in (
        ('{"resolution": 16,', "damaged"),
        ("[1]", "not a JSON object"),
        ("{}", "resolution is missing"),
    ):
        (tmp_path / "preprocess.json").write_text(text)
        with pytest.raises(CompressError, match=words) as caught:
            read_inputs(tmp_path)
        assert "\n" not in str(caught.value)
    (tmp_path / "preprocess.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CompressError, match="damaged"):
        read_inputs(tmp_path)
    (tmp_path / "preprocess.json").unlink()
    (tmp_path / "preprocess.json").mkdir()
    with pytest.raises(CompressError, match=r"preprocess\.json cannot be read: Is a directory"):
        read_inputs(tmp_path)
