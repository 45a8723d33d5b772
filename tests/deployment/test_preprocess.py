"""Preprocessing by numpy and Pillow equals the pipeline's in torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deployment.tiny_classifier import PREPROCESS
from PIL import Image, ImageOps

from compress.data.image_io import decode
from compress.data.preprocess import Preprocess, describe
from compress.deployment.preprocess import Inputs, decode_blocks, require_pixels
from compress.deployment.preprocess_file import gives_embeddings, preprocess_file, read_inputs
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


@pytest.mark.parametrize(
    ("pixels", "fix"),
    [
        (np.zeros((8, 8, 3)), r"pass \(pixels \* 255\).round\(\).astype\('uint8'\)"),
        (np.zeros((8, 8, 3), np.int64), r"pass pixels.astype\('uint8'\)"),
        (np.zeros((8, 8), np.uint8), r"for grey pass numpy.stack\(\[pixels\] \* 3, -1\)"),
        (np.zeros((8, 8, 1), np.uint8), r"pass numpy.repeat\(pixels, 3, -1\)"),
        (np.zeros((8, 8, 4), np.uint8), r"pass PIL.Image.fromarray\(pixels\)"),
        (np.zeros((3, 8, 8), np.uint8), r"pass numpy.moveaxis\(pixels, -3, -1\)"),
        (np.zeros((2, 8, 8, 3), np.uint8), "decode the image with PIL"),
        (np.zeros((0, 8, 3), np.uint8), "decode the image with PIL"),
    ],
)
def test_other_pixels_are_refused_with_the_conversion(pixels: np.ndarray, fix: str) -> None:
    with pytest.raises(UsageError, match=rf"^pixels must be uint8 \[height, width, 3\], not .*; .*{fix}"):
        Inputs(8, MEAN, STD, "bicubic", 8)([pixels])


@pytest.mark.parametrize(
    ("pixels", "fix"),
    [
        (np.zeros((8, 8, 3), np.uint8), r"pass a single image as \[pixels\]"),
        (np.zeros((2, 8, 8), np.uint8), "for grey pass"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"moveaxis\(pixels, -3, -1\)"),
        (np.zeros((2, 8, 8, 3), np.float32), "pixels \\* 255"),
    ],
)
def test_other_batches_are_refused_with_the_conversion(pixels: np.ndarray, fix: str) -> None:
    with pytest.raises(UsageError, match=rf"^pixels must be uint8 \[n, height, width, 3\], not .*; .*{fix}"):
        require_pixels(pixels, batch=True)
    require_pixels(np.zeros((0, 8, 8, 3), np.uint8), batch=True)


def test_tensors_are_refused() -> None:
    with pytest.raises(UsageError, match=r"must be a path, a PIL image or a numpy array, not Tensor; convert it"):
        Inputs(8, MEAN, STD, "bicubic", 8)(torch.zeros(2, 8, 8, 3, dtype=torch.uint8))  # type: ignore[arg-type]


def test_damaged_files_keep_their_places(files: list[Path]) -> None:
    files[1].write_bytes(files[1].read_bytes()[:200])
    files[2].write_text("no image")
    blocks = list(decode_blocks(Inputs(16, MEAN, STD, "bicubic", 16), files, 3))
    assert [block.rows for block in blocks] == [(0,), (3,)]
    assert [sorted(block.broken) for block in blocks] == [[1, 2], []]
    assert [block.pixels.shape for block in blocks] == [(1, 3, 16, 16)] * 2


def test_files_of_older_versions_keep_their_meaning(tmp_path: Path) -> None:
    (tmp_path / "preprocess.json").write_text(json.dumps(PREPROCESS), encoding="utf-8")
    inputs, classes = read_inputs(tmp_path)
    assert inputs == Inputs(16, (0.5,) * 3, (0.25,) * 3, "bilinear", 16)
    assert classes == tuple(PREPROCESS["classes"])
    (tmp_path / "preprocess.json").write_text(json.dumps({**PREPROCESS, "stored_resolution": 96}), encoding="utf-8")
    assert read_inputs(tmp_path)[0].stored_resolution == 96


def test_a_file_of_a_newer_version_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "preprocess.json"
    for version in (None, 1):
        file.write_text(json.dumps(PREPROCESS if version is None else {**PREPROCESS, "schema_version": version}))
        assert read_inputs(tmp_path)[0].resolution == 16
    assert preprocess_file(OWN[0], 48, ["cat"])["schema_version"] == 1
    file.write_text(json.dumps({"schema_version": 2, "input": {"side": 16}}))
    for read in (read_inputs, gives_embeddings):
        with pytest.raises(
            CompressError, match=r"json has schema_version 2, and this version reads 1; upgrade compress-model$"
        ):
            read(tmp_path)


OWN = [
    Preprocess(40, MEAN, STD, "bilinear", 46),
    Preprocess(64, MEAN, STD, "lanczos", 48),  # padded
    Preprocess(33, MEAN, STD, "nearest", 40),
    Preprocess(32, MEAN, STD, "bicubic", 36, "squash"),
    Preprocess(48, MEAN, STD),
    Preprocess(32, MEAN, STD, "bilinear"),
]


def pictures(folder: Path) -> list[Path]:
    """Files of all kinds: orientations, transparency, palettes, animations, 16-bit grey, slivers, odd sizes."""
    upright = Image.fromarray(photo(61, 43))
    exif = Image.Exif()
    exif[0x0112] = 8
    clear = upright.convert("RGBA")
    clear.putalpha(Image.fromarray(photo(61, 43, 1)[..., 0]))
    files: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "turned.jpg": (upright, {"exif": exif}),
        "clear.png": (clear, {}),
        "palette.png": (upright.quantize(17), {}),
        "palette.gif": (upright, {"append_images": [Image.new("RGB", (61, 43))], "save_all": True}),
        "grey.png": (upright.convert("L"), {}),
        "deep.png": (Image.fromarray(photo(44, 51)[..., 0].astype(np.uint16) * 200 + 13), {}),
        "sliver.png": (Image.fromarray(photo(9, 200)), {}),
        **{f"{seed}.jpg": (Image.fromarray(photo(30 + 13 * seed, 90 - 7 * seed, seed)), {}) for seed in range(8)},
    }
    for name, (image, options) in files.items():
        image.save(folder / name, **options)
    return [folder / name for name in files]


def by_hand(file: Path, about: dict[str, Any]) -> np.ndarray:
    """What a careful reader writes from `preprocess.json` alone; see its `steps`."""
    image = ImageOps.exif_transpose(Image.open(file))
    if image.mode.startswith("I"):
        image = Image.fromarray(((np.asarray(image).astype(int) + 128) // 257).astype(np.uint8))
    if image.mode == "RGBA" or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image, kind = image.convert("RGB"), Image.Resampling[about["interpolation"].upper()]
    (width, height), side = image.size, about["resolution"]
    if "resize" in about:
        to, shorter = about["resize"], min(width, height)
        size = (int(to * width / shorter), int(to * height / shorter))
        image = image.resize((to, to) if about["crop_mode"] == "squash" else size, kind)
        before = [max(side - length, 0) // 2 for length in image.size]
        padded = Image.new("RGB", tuple(max(side, length) for length in image.size))
        padded.paste(image, tuple(before))
        left, top = (round((length - side) / 2) for length in padded.size)
        image = padded.crop((left, top, left + side, top + side))
    else:
        stored, shorter = about["stored_resolution"], min(width, height)
        left, top = (width - shorter) / 2, (height - shorter) / 2
        box = (left, top, left + shorter, top + shorter)
        image = image.resize((stored, stored), Image.Resampling.BICUBIC, box=box)
        image = image.resize((side, side), kind) if stored != side else image
    values = (np.asarray(image) * about["scale"] - about["mean"]) / about["std"]
    return values.transpose(2, 0, 1).astype(about["dtype"])


@pytest.mark.parametrize("preprocess", OWN, ids=describe)
def test_own_code_from_the_file_alone_agrees_on_every_image(tmp_path: Path, preprocess: Preprocess) -> None:
    files = pictures(tmp_path)
    content = json.dumps(preprocess_file(preprocess, 48, ["cat", "dog"]))
    (tmp_path / "preprocess.json").write_text(content)
    found = read_inputs(tmp_path)[0](files)
    expected = np.stack([by_hand(file, json.loads(content)) for file in files])
    assert found.shape == expected.shape and np.abs(found - expected).max() < 1e-5
    if preprocess.from_originals:
        pixels = np.stack([decode(file, preprocess.geometry) for file in files])
        assert np.array_equal(read_inputs(tmp_path)[0].normalise(pixels), found)


def test_the_steps_are_sentences() -> None:
    steps = preprocess_file(OWN[0], 48, ["cat"])["steps"]
    assert steps[1].startswith("Resize the shorter side to 46 pixels, the longer to int(46 * longer / shorter): bilin")
    assert steps[2].startswith("Crop 40 x 40 pixels from left = round((width - 40) / 2)")
    assert "both sides to 36 pixels: bicubic, antialiased" in preprocess_file(OWN[3], 48, ["cat"])["steps"][1]
    assert [len(preprocess_file(own, 48, ["cat"])["steps"]) for own in OWN[-2:]] == [5, 6]


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
        ({"crop_mode": "border", "resize": 9}, "crop_mode must be one of center, squash, not 'border'"),
        ({"crop_mode": "squash"}, "resize is missing"),
        ({"resize": 0}, "resize must be a side"),
        ({"channels": "BGR"}, "channels must be RGB, not 'BGR'"),
        ({"output": "probabilities"}, "output must be logits"),
        ({"schema_version": "2"}, "schema_version must be a positive integer, not '2'"),
        ({"schema_version": 0}, "schema_version must be a positive integer, not 0"),
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
