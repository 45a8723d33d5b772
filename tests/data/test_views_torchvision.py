"""Operations of views against torchvision's v2 functions with the same parameters."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from compress.data.views import colour, filters, geometry, render
from compress.data.views.augment import STEPS, operations
from compress.data.views.boxes import draw_boxes
from compress.data.views.draws import BITS, ONE, Draw, Draws
from compress.recipe.data import Views

SIZES = [(32, 32), (17, 23), (64, 33), (224, 224), (3, 5), (1, 40), (40, 1)]
BILINEAR = InterpolationMode.BILINEAR
STILL = {"shift": 0, "flip": False}


def images(height: int, width: int, count: int = 4) -> Tensor:
    """Noise, a smooth image, a grey one and one of a single colour, in turns."""
    generator = torch.Generator().manual_seed(height * 1000 + width)
    noise = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)
    small = torch.rand(count, 3, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(small, (height, width), mode="bilinear").mul(255).to(torch.uint8)
    noise[1::4] = smooth[1::4]
    noise[2::4] = smooth[2::4, :1]
    noise[3::4] = noise[3::4, :, :1, :1]
    return noise


def worst(ours: Tensor, theirs: list[Tensor]) -> int:
    return int((ours.int() - torch.stack(theirs).int()).abs().max())


@pytest.mark.parametrize("size", SIZES)
def test_random_resized_crop(size: tuple[int, int]) -> None:
    views, pixels = Views(**STILL, crop=(0.08, 1)), images(*size, count=24)
    boxes = draw_boxes(Draws(torch.arange(24), 1, 2), Draw.CROP, size, views.crop, views.ratio)
    ours = render(pixels, torch.arange(24), 1, 2, views)
    found = zip(pixels, boxes.top, boxes.left, boxes.height, boxes.width, strict=True)
    theirs = [F.resized_crop(image, *map(int, box), list(size), BILINEAR, antialias=True) for image, *box in found]
    assert worst(ours, theirs) <= 1


def test_boxes_have_the_distribution_of_torchvision() -> None:
    boxes = draw_boxes(Draws(torch.arange(20_000), 0, 0), Draw.CROP, (100, 100), (0.08, 1), (0.75, 4 / 3))
    assert bool(boxes.found.all())
    assert bool((boxes.top >= 0).all() and (boxes.top + boxes.height <= 100).all())
    assert bool((boxes.left >= 0).all() and (boxes.left + boxes.width <= 100).all())
    aspect, area = boxes.width / boxes.height, boxes.width * boxes.height / 10_000
    assert 0.70 < float(aspect.min()) < 0.78 and 1.29 < float(aspect.max()) < 1.42
    # Large boxes of extreme aspect do not fit and are drawn again: 0.48 is left of a mean of 0.54.
    assert 0.07 < float(area.min()) < 0.09 and 0.47 < float(area.mean()) < 0.49 and float(area.max()) > 0.98
    assert abs(float(aspect.log().mean())) < 0.01
    middle = (boxes.left * 2 + boxes.width).double().mean()
    assert abs(float(middle) - 100) < 1


def test_a_box_that_does_not_fit_is_the_whole_image() -> None:
    views, pixels = Views(**STILL, crop=(1, 1), ratio=(5, 6)), images(30, 30)
    assert torch.equal(render(pixels, torch.arange(4), 0, 0, views), pixels)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("factor", [0.3, 0.85, 1.0, 1.6])
def test_colour(size: tuple[int, int], factor: float) -> None:
    pixels = images(*size)
    factors = torch.full((4,), round(factor * ONE))
    for ours, theirs, levels in (
        (colour.brightness, F.adjust_brightness, 1),
        (colour.contrast, F.adjust_contrast, 2),  # torchvision rounds greys down, and then the result
        (colour.saturation, F.adjust_saturation, 2),
        (filters.sharpness, F.adjust_sharpness, 1),
    ):
        assert worst(ours(pixels.int(), factors), [theirs(image, factor) for image in pixels]) <= levels, ours


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("turn", [-0.5, -0.21, 0.0, 0.05, 0.3, 0.5])
def test_hue(size: tuple[int, int], turn: float) -> None:
    pixels = images(*size)
    ours = colour.hue(pixels.int(), torch.full((4,), round(turn * colour.TURN)))
    assert worst(ours, [F.adjust_hue(image, turn) for image in pixels]) <= 1


@pytest.mark.parametrize("size", SIZES)
def test_grey_and_histograms(size: tuple[int, int]) -> None:
    pixels = images(*size)
    grey = colour.grayscale(pixels.int(), torch.tensor([True, True, True, False]))
    assert worst(grey[:3], [F.rgb_to_grayscale(image, 3) for image in pixels[:3]]) <= 1
    assert torch.equal(grey[3], pixels[3].int())
    assert worst(colour.equalize(pixels.int()), [F.equalize(image) for image in pixels]) == 0
    assert worst(colour.autocontrast(pixels.int()), [F.autocontrast(image) for image in pixels]) <= 1
    for bits in range(1, 9):
        ours = colour.posterize(pixels.int(), torch.full((4,), bits))
        assert worst(ours, [F.posterize(image, bits) for image in pixels]) == 0
    for threshold in (0, 77, 255):
        ours = colour.solarize(pixels.int(), torch.full((4,), threshold))
        assert worst(ours, [F.solarize(image, float(threshold)) for image in pixels]) == 0


@pytest.mark.parametrize("size", [(32, 32), (17, 23), (224, 224)])
@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_blur(size: tuple[int, int], sigma: float) -> None:
    pixels, chosen = images(*size), torch.tensor([True, True, False, True])
    ours = filters.blur(pixels.int(), chosen, torch.zeros(4, dtype=torch.int64), (sigma, sigma))
    side = 2 * math.ceil(3 * sigma) + 1
    theirs = [F.gaussian_blur(image, [side, side], [sigma, sigma]) for image in pixels]
    theirs[2] = pixels[2]
    assert worst(ours, theirs) <= 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("degrees", [-180.0, -33.3, 0.0, 10.0, 90.0, 135.0])
def test_rotation(size: tuple[int, int], degrees: float) -> None:
    pixels = images(*size)
    ours = geometry.rotate(pixels.int(), torch.full((4,), round(math.copysign(30, degrees))), abs(degrees), 30)
    assert worst(ours, [F.rotate(image, degrees, BILINEAR) for image in pixels]) <= 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("method", ["randaugment", "trivialaugment"])
def test_affine_operations_have_torchvisions_magnitudes(size: tuple[int, int], method: str) -> None:
    pixels, table = images(*size), operations(method, *size)
    shear = {"randaugment": 0.3, "trivialaugment": 0.99}[method]
    for step, sign in ((9, 1), (STEPS, -1)):
        angle = math.degrees(math.atan(sign * shear * step / STEPS))
        moves = [32 * step // STEPS] * 2 if method == "trivialaugment" else [150 * s * step // (331 * 30) for s in size]
        for number, translate, tilt in (
            (1, [0, 0], [angle, 0]),
            (2, [0, 0], [0, angle]),
            (3, [sign * moves[1], 0], [0, 0]),
            (4, [0, sign * moves[0]], [0, 0]),
        ):
            amount = torch.full((4,), sign * table[number].amounts[step])
            centre = [0, 0] if number < 3 else None
            theirs = [
                F.affine(image, 0.0, translate, 1.0, tilt, interpolation=BILINEAR, center=centre) for image in pixels
            ]
            assert worst(table[number].apply(pixels.int(), amount), theirs) <= 1, number


@pytest.mark.parametrize("method", ["randaugment", "trivialaugment"])
def test_all_operations_are_used_equally_often(method: str) -> None:
    """Each image gets what its own operation gives alone, and a fourteenth of the images gets each."""
    pixels = images(16, 16).repeat(350, 1, 1, 1)
    views = Views(**STILL, augment=method, **({"operations": 1} if method == "randaugment" else {}))
    draws, table = Draws(torch.arange(len(pixels)), 0, 0), operations(method, 16, 16)
    chosen = draws.below(Draw.AUGMENT, len(table))
    assert torch.bincount(chosen).min() > 70 and len(torch.bincount(chosen)) == 14
    assert torch.equal(render(pixels, torch.arange(len(pixels)), 0, 0, views)[chosen == 0], pixels[chosen == 0])


def test_erasing_covers_its_box_with_grey() -> None:
    pixels = images(40, 30, count=400)
    views = Views(**STILL, erasing=0.25)
    draws = Draws(torch.arange(400), 0, 0)
    boxes = draw_boxes(draws, Draw.ERASED, (40, 30), (0.02, 0.33), (0.3, 3.3))
    erased = (draws.bits(Draw.ERASING) < (1 << BITS) // 4) & boxes.found
    theirs = [
        F.erase(image, *map(int, box), torch.full((1,), 128, dtype=torch.uint8)) if hit else image
        for image, hit, *box in zip(pixels, erased, boxes.top, boxes.left, boxes.height, boxes.width, strict=True)
    ]
    assert 70 < int(erased.sum()) < 130
    assert worst(render(pixels, torch.arange(400), 0, 0, views), theirs) == 0
