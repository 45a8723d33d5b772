from __future__ import annotations

import numpy as np
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image

from compress.data.preprocess import Preprocess

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


def photo(width: int, height: int) -> np.ndarray:
    """Noise over waves: edges at every scale."""
    rows, columns = np.mgrid[:height, :width]
    waves = 110 + 90 * np.sin(rows / 7)[..., None] * np.cos(columns[..., None] / (5, 9, 13))
    return (waves + np.random.default_rng(0).normal(0, 20, waves.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(32, 32), (300, 200), (200, 301), (128, 128), (129, 128), (500, 130)])
def test_agrees_with_open_clip(size, interpolation):
    pixels = photo(*size)
    expected = image_transform(128, is_train=False, mean=MEAN, std=STD, interpolation=interpolation)(
        Image.fromarray(pixels)
    )
    preprocess = Preprocess(128, MEAN, STD, interpolation)
    found = preprocess(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0]
    assert found.shape == expected.shape == (3, 128, 128) and found.dtype == torch.float32
    difference = (found - expected).abs() * torch.tensor(STD).view(3, 1, 1) * 255
    assert difference.max() <= 1.5 and difference.mean() <= 0.05


def test_the_right_size_is_not_resized():
    pixels = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    found = Preprocess(16, (0.5,) * 3, (0.25,) * 3)(pixels)
    torch.testing.assert_close(found, (pixels / 255 - 0.5) / 0.25)


def test_an_image_does_not_depend_on_its_batch():
    pixels = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    preprocess = Preprocess(48, MEAN, STD)
    assert torch.equal(preprocess(pixels)[3:4], preprocess(pixels[3:4]))
