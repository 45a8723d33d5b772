from __future__ import annotations

import numpy as np
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image
from timm.data import create_transform
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from compress.data.geometry import CROP_MODES, INTERPOLATIONS, Geometry, require_geometry
from compress.data.preprocess import Preprocess, describe, preprocess_remarks
from compress.utils.errors import UsageError

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def photo(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Noise over waves: edges at every scale."""
    rows, columns = np.mgrid[:height, :width]
    waves = 110 + 90 * np.sin(rows / 7)[..., None] * np.cos(columns[..., None] / (5, 9, 13))
    return (waves + np.random.default_rng(seed).normal(0, 20, waves.shape)).clip(0, 255).astype(np.uint8)


def levels(preprocess: Preprocess, pixels: np.ndarray) -> torch.Tensor:
    """Preprocess `[h, w, 3]`, undo the normalisation: `[3, r, r]` from 0 to 255."""
    assert (preprocess.mean, preprocess.std) == ((0,) * 3, (1,) * 3)
    return preprocess(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0] * 255


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


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_resize_and_crop_are_those_of_torchvision(interpolation):
    rng = np.random.default_rng(1)
    for seed in range(40):
        width, height = (int(side) for side in rng.integers(20, 260, 2))
        resize, resolution = int(rng.integers(16, 160)), int(rng.integers(16, 140))
        pixels = photo(width, height, seed)
        owner = transforms.Compose(
            [
                transforms.Resize(resize, InterpolationMode[interpolation.upper()]),
                transforms.CenterCrop(resolution),
                transforms.PILToTensor(),
            ]
        )
        expected = owner(Image.fromarray(pixels))
        assert np.array_equal(Geometry(resolution, resize, interpolation).render(Image.fromarray(pixels)), expected)
        found = levels(Preprocess(resolution, (0,) * 3, (1,) * 3, interpolation, resize), pixels)
        assert (found - expected.float()).abs().max() <= 1.001, (width, height, resize, resolution)


@pytest.mark.parametrize("crop_mode", CROP_MODES)
@pytest.mark.parametrize(("interpolation", "crop_pct"), [("bicubic", 0.95), ("bilinear", 0.875), ("lanczos", 1.0)])
def test_resize_and_crop_are_those_of_timm(interpolation, crop_pct, crop_mode):
    evaluate = create_transform(
        (3, 96, 96), interpolation=interpolation, crop_pct=crop_pct, crop_mode=crop_mode, normalize=False
    )
    preprocess = Preprocess(96, (0,) * 3, (1,) * 3, interpolation, int(96 / crop_pct), crop_mode)
    for size in [(50, 40), (120, 333), (101, 100), (96, 96), (96, 130)]:
        pixels = photo(*size)
        expected = evaluate(Image.fromarray(pixels))
        assert np.array_equal(preprocess.geometry.render(Image.fromarray(pixels)), expected)
        assert (levels(preprocess, pixels) - expected.float()).abs().max() <= 1.001


def test_a_sliver_does_not_become_huge():
    sliver = Image.fromarray(photo(20_000, 2))
    found = Geometry(128, 146, "bilinear").render(sliver)
    expected = transforms.CenterCrop(128)(transforms.Resize(146)(sliver.crop((9_800, 0, 10_200, 2))))
    assert np.abs(found.astype(int) - np.asarray(expected).transpose(2, 0, 1)).max() <= 1


def test_the_right_size_is_not_resized():
    pixels = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    found = Preprocess(16, (0.5,) * 3, (0.25,) * 3)(pixels)
    torch.testing.assert_close(found, (pixels / 255 - 0.5) / 0.25)


@pytest.mark.parametrize("interpolation", ["bicubic", "lanczos"])
def test_an_image_does_not_depend_on_its_batch(interpolation):
    pixels = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    preprocess = Preprocess(48, MEAN, STD, interpolation)
    assert torch.equal(preprocess(pixels)[3:4], preprocess(pixels[3:4]))


def test_what_is_not_supported_is_refused_by_name():
    assert require_geometry("lanczos", "squash", "timm's x") == ("lanczos", "squash")
    with pytest.raises(UsageError, match=r"^timm's x: crop_mode 'border' is not supported, only center, squash; "):
        require_geometry("bicubic", "border", "timm's x")
    with pytest.raises(UsageError, match=r"interpolation 'random' is not supported, only bicubic, .*; choose other"):
        require_geometry("random", "center", "timm's x")


def test_a_line_describes_it():
    line = "Resize 146 bilinear, CenterCrop 128, mean [0.485, 0.456, 0.406], std [0.229, 0.224, 0.225]"
    assert describe(Preprocess(128, *IMAGENET, "bilinear", 146)) == line
    assert describe(Preprocess(32, (0.5,) * 3, (0.25,) * 3)).startswith("Resize 32 bicubic, mean [0.5, 0.5, 0.5], std ")
    assert describe(Preprocess(224, *IMAGENET, "bicubic", 256, "squash")).startswith("Resize 256x256 bicubic, CenterCr")


def test_a_mismatch_with_published_weights_is_named():
    published = Preprocess(224, *IMAGENET, "bicubic", 235)
    assert preprocess_remarks(published, published) == preprocess_remarks(published, None) == []
    # 128 of 134 pixels are the same share but for rounding
    assert preprocess_remarks(Preprocess(128, (0.48501, 0.456, 0.406), IMAGENET[1], "bicubic", 134), published) == []
    assert preprocess_remarks(Preprocess(224, (0.5,) * 3, (0.25,) * 3, "bilinear", 256), published) == [
        "mean [0.5, 0.5, 0.5] is not that of the published weights; set mean: [0.485, 0.456, 0.406]",
        "std [0.25, 0.25, 0.25] is not that of the published weights; set std: [0.229, 0.224, 0.225]",
        "interpolation bilinear is not that of the published weights; set interpolation: bicubic",
        "crop_pct 0.875 is not that of the published weights; set crop_pct: 0.953",
    ]
    assert preprocess_remarks(Preprocess(224, *IMAGENET), published) == [
        "crop_pct 1 is not that of the published weights; set crop_pct: 0.953"
    ]
