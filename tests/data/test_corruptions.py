"""Corruptions have the published parameters, do to pixels what these say, and depend on nothing but seed and image."""

from __future__ import annotations

import colorsys
import importlib
import io
import sys
from types import ModuleType
from typing import get_args

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from compress.data.corruptions import (
    PARAMETERS,
    SEVERITIES,
    CorruptedImages,
    benchmark,
    conditions,
    corrupt,
    parameters,
)
from compress.recipe.measure import CORRUPTIONS, Corruption

# `c = [...]` of make_imagenet_c.py and make_cifar_c.py in github.com/hendrycks/robustness, severities 1, 3 and 5
PUBLISHED: dict[str, tuple[tuple[object, ...], tuple[object, ...]]] = {
    "gaussian_noise": ((0.08, 0.18, 0.38), (0.04, 0.08, 0.10)),
    "shot_noise": ((60, 12, 3), (500, 100, 50)),
    "motion_blur": (((10, 3), (15, 8), (20, 15)), ((6, 1), (6, 2), (9, 2.5))),
    "defocus_blur": (((3, 0.1), (6, 0.5), (10, 0.5)), ((0.3, 0.4), (0.5, 0.6), (1.5, 0.1))),
    "jpeg": ((25, 15, 7), (80, 58, 40)),
    "contrast": ((0.4, 0.2, 0.05), (0.75, 0.4, 0.15)),
    "brightness": ((0.1, 0.3, 0.5), (0.05, 0.15, 0.3)),
    "pixelate": ((0.6, 0.4, 0.25), (0.95, 0.85, 0.65)),
}
LARGE, SMALL = 128, 32


def picture(side: int = SMALL, seed: int = 0) -> np.ndarray:
    """A smooth picture with some detail, uint8 `[3, side, side]`."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(0, 1, (3, side, side)), (0, side / 10, side / 10))
    detail = ndimage.gaussian_filter(rng.normal(0, 1, (3, side, side)), (0, 1, 1))
    return (128 + 30 * smooth / smooth.std() + 20 * detail / detail.std()).clip(0, 255).astype(np.uint8)


def grey(level: int, side: int) -> np.ndarray:
    return np.full((3, side, side), level, np.uint8)


def impulse(side: int) -> np.ndarray:
    image = grey(0, side)
    image[:, side // 2, side // 2] = 255
    return image


@pytest.mark.parametrize("corruption", PUBLISHED)
def test_parameters_are_the_published_ones(corruption: Corruption) -> None:
    for side, published in zip((224, SMALL), PUBLISHED[corruption], strict=True):
        own = [parameters(corruption, severity, side) for severity in SEVERITIES]
        assert own == [value if isinstance(value, tuple) else (value,) for value in published]
    assert all(len(table) == 5 for table in PARAMETERS[corruption])


def test_all_corruptions_of_recipes_exist_and_small_images_have_parameters_of_their_own() -> None:
    assert set(PUBLISHED) == set(PARAMETERS) == set(get_args(Corruption)) == set(CORRUPTIONS)
    assert (benchmark(64), benchmark(65)) == ("CIFAR-10-C", "ImageNet-C")
    assert parameters("jpeg", 1, 64) == (80,) and parameters("jpeg", 1, 65) == (25,)
    assert conditions(["jpeg"]) == [("jpeg", 1), ("jpeg", 3), ("jpeg", 5)]
    with pytest.raises(ValueError, match="severity must be 1 to 5, not 6"):
        parameters("jpeg", 6, 32)


@pytest.mark.parametrize(("side", "severity"), [(SMALL, 1), (SMALL, 3), (SMALL, 5), (LARGE, 1)])
def test_noise_has_the_published_variance(side: int, severity: int) -> None:
    (deviation,), (photons,) = (parameters(name, severity, side) for name in ("gaussian_noise", "shot_noise"))
    noisy = np.stack([corrupt(grey(128, side), "gaussian_noise", severity, 0, k) for k in range(20)]).astype(float)
    assert noisy.std() == pytest.approx(255 * deviation, rel=0.03)
    assert noisy.mean() == pytest.approx(127.5, abs=0.3)  # half a level is cut off
    shot = np.stack([corrupt(grey(100, side), "shot_noise", severity, 0, k) for k in range(20)]).astype(float)
    assert shot.std() == pytest.approx(np.sqrt(100 * 255 / photons), rel=0.03)
    assert not (noisy[0] == noisy[1]).all() and not (shot[0] == shot[1]).all()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_jpeg_is_pillows_at_the_published_quality(severity: int) -> None:
    for side in (SMALL, LARGE):
        image, file = picture(side), io.BytesIO()
        quality = int(parameters("jpeg", severity, side)[0])
        Image.fromarray(image.transpose(1, 2, 0)).save(file, "JPEG", quality=quality)
        # the IJG scales its table of luminance, whose first entry is 16, by 200 - 2 q percent, below 50 by 5000 / q
        scale = 200 - 2 * quality if quality >= 50 else 5000 // quality
        assert Image.open(file).quantization[0][0] == (16 * scale + 50) // 100  # type: ignore[attr-defined]
        assert np.array_equal(corrupt(image, "jpeg", severity, 0, 0), np.asarray(Image.open(file)).transpose(2, 0, 1))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_contrast_shrinks_the_distance_from_the_mean_of_each_channel(severity: int) -> None:
    image = picture(LARGE)
    changed = corrupt(image, "contrast", severity, 0, 0).astype(float)
    (factor,) = parameters("contrast", severity, LARGE)
    means = image.mean((1, 2))
    assert changed.mean((1, 2)) == pytest.approx(means - 0.5, abs=0.2)
    assert changed.std((1, 2)) == pytest.approx(factor * image.std((1, 2)), rel=0.03)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_raises_the_value_of_hsv(severity: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (3, 8, 8), np.uint8)
    image[:, 0, 0], image[:, 0, 1] = 0, (200, 0, 0)
    changed = corrupt(image, "brightness", severity, 0, 0)
    (added,) = parameters("brightness", severity, 8)
    for row, column in np.ndindex(8, 8):
        hue, saturation, value = colorsys.rgb_to_hsv(*(image[:, row, column] / 255))
        expected = 255 * np.array(colorsys.hsv_to_rgb(hue, saturation, min(1, value + added)))
        assert changed[:, row, column] == pytest.approx(expected, abs=1.001)
        assert (changed[:, row, column] <= expected + 0.01).all()  # cut off, not rounded


def test_pixels_are_means_of_blocks() -> None:
    image = picture(LARGE)
    changed = corrupt(image, "pixelate", 5, 0, 0).astype(float)  # to a quarter: blocks of 4 x 4
    means = image.reshape(3, LARGE // 4, 4, LARGE // 4, 4).mean((2, 4))
    assert np.abs(changed - np.kron(means, np.ones((1, 4, 4)))).max() <= 1  # rows, then columns are rounded
    small = corrupt(picture(), "pixelate", 5, 0, 0)
    assert len(np.unique(small.reshape(3, -1).T, axis=0)) <= int(0.65 * SMALL) ** 2


def test_defocus_is_a_disk() -> None:
    assert (corrupt(impulse(SMALL), "defocus_blur", 5, 0, 0)[0] > 0).sum() == 9  # radius 1.5
    for severity, radius in ((1, 3), (3, 6), (5, 10)):
        response = corrupt(impulse(LARGE), "defocus_blur", severity, 0, 0)[0].astype(float)
        down, right = np.indices(response.shape) - LARGE // 2
        distance = np.hypot(down, right)
        area = (distance <= radius).sum()
        assert response[distance <= radius - 2] == pytest.approx(255 / area, abs=1)
        assert not response[distance > radius + 3].any()
    flat = grey(90, LARGE)
    assert np.array_equal(corrupt(flat, "defocus_blur", 1, 0, 0), flat)


def test_motion_is_half_of_a_gaussian_in_a_direction_of_at_most_45_degrees() -> None:
    taps = np.arange(2 * 9 + 1)
    weights = np.exp(-0.5 * (taps / 2.5) ** 2)
    weights /= weights.sum()
    angles = []
    for number in range(60):
        response = corrupt(impulse(SMALL), "motion_blur", 5, 0, number)[0].astype(float)
        assert 240 < response.sum() <= 256  # whole levels are cut off
        down, right = (float((axis * response).sum() / response.sum()) - 16 for axis in np.indices(response.shape))
        assert np.hypot(down, right) == pytest.approx((weights * taps).sum(), abs=0.6)
        angles.append(np.degrees(np.arctan2(-down, -right)))
    assert -52 < min(angles) < -25 and 25 < max(angles) < 52
    flat = grey(90, SMALL)
    assert np.array_equal(corrupt(flat, "motion_blur", 5, 0, 0), flat)


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_pixels_depend_on_seed_number_and_severity_alone(corruption: Corruption) -> None:
    images = np.stack([picture(seed=row) for row in range(6)])
    images[3:] = images[1]
    view = CorruptedImages(images, corruption, 3, 7)
    every = view[:]
    assert every.dtype == np.uint8 and every.shape == images.shape == view.shape and len(view) == 6
    rows = np.array([5, 1, 2])
    assert np.array_equal(view[rows], every[rows]) and np.array_equal(view[2], every[2])
    assert np.array_equal(np.stack(list(view)), every) and view.nbytes == images.nbytes
    assert not np.array_equal(every, images)
    random = corruption in ("gaussian_noise", "shot_noise", "motion_blur")
    assert all(np.array_equal(every[1], other) for other in every[3:]) != random
    assert np.array_equal(CorruptedImages(images, corruption, 3, 8)[:], every) != random
    change = [np.abs(CorruptedImages(images, corruption, s, 7)[:] - images.astype(float)).mean() for s in (1, 3, 5)]
    assert 0 < change[0] < change[1] < change[2]


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_images_need_not_be_square(corruption: Corruption) -> None:
    image = picture(LARGE)[:, :, :40]
    assert corrupt(image, corruption, 5, 0, 0).shape == (3, LARGE, 40)


# --- against the published code, by the package imagecorruptions, where that is installed ----------------------------
# pip install --no-deps imagecorruptions opencv-python-headless scikit-image lazy-loader imageio tifffile

NAMES = {"jpeg": "jpeg_compression"}


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The published functions, without the packages that only other corruptions need."""
    for name in ("cv2", "skimage", "scipy"):
        pytest.importorskip(name)
    absent = ModuleType("absent")
    absent.njit = lambda *a, **k: a[0] if a and callable(a[0]) else lambda function: function  # type: ignore[attr-defined]
    absent.prange, absent.resource_filename = range, lambda *a: ""  # type: ignore[attr-defined]
    for name in ("numba", "pkg_resources"):
        monkeypatch.setitem(sys.modules, name, absent)
    try:
        return importlib.import_module("imagecorruptions.corruptions")
    except ImportError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_pixels_are_those_of_the_published_code(
    published: ModuleType, corruption: Corruption, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = picture(224)  # the package has the parameters of ImageNet-C only
    angle = np.random.Generator(np.random.PCG64([0, CORRUPTIONS.index(corruption), 0])).uniform(-45, 45)
    monkeypatch.setattr(np.random, "uniform", lambda *ends: angle)  # the direction of motion, else drawn there
    for severity in SEVERITIES:
        theirs = getattr(published, NAMES.get(corruption, corruption))(
            Image.fromarray(image.transpose(1, 2, 0)), severity
        )
        own, other = corrupt(image, corruption, severity, 0, 0).astype(int), np.uint8(theirs).transpose(2, 0, 1)
        if corruption in ("gaussian_noise", "shot_noise"):
            changes = [np.abs(each - image.astype(int)) for each in (own, other)]
            assert changes[0].mean() == pytest.approx(changes[1].mean(), rel=0.01)
            assert changes[0].std() == pytest.approx(changes[1].std(), rel=0.01)
            continue
        assert np.abs(own - other).max() <= 1  # where rounding decides on which side of a level a value is
        assert (own == other).mean() > 0.96
