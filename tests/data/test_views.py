from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pretended_cuda import pretended_cuda

from compress.data.views import render
from compress.data.views.draws import Draws
from compress.recipe.data import Views

ALL = Views(shift=0.25, flip=True, brightness=0.4, contrast=0.4)
NONE = Views(shift=0, flip=False, brightness=0, contrast=0)
CROP = {"shift": 0.1, "crop": (0.08, 1), "rotation": 30}
COLOUR = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "grayscale": 0.3}
RAND = Views(**CROP, **COLOUR, augment="randaugment", operations=3, blur=0.5, erasing=0.5)
TRIVIAL = Views(**CROP, augment="trivialaugment", erasing=0.5)
EVERYTHING = pytest.mark.parametrize("views", [ALL, RAND, TRIVIAL], ids=["first", "randaugment", "trivialaugment"])


def noise(count: int, height: int = 8, width: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


@EVERYTHING
@settings(max_examples=20)
@given(st.integers(0, 2**31 - 1), st.integers(0, 10**6), st.lists(st.integers(0, 19), min_size=1, max_size=12))
def test_a_view_does_not_depend_on_its_batch(views, seed, view, chosen):
    images, indices = noise(20, 9, 13), torch.arange(20) + 10**12
    whole = render(images, indices, view, seed, views)
    rows = torch.tensor(chosen)
    assert torch.equal(render(images[rows], indices[rows], view, seed, views), whole[rows])


@EVERYTHING
def test_neither_chunks_nor_memory_layout_change_a_view(views, monkeypatch):
    images, indices = noise(17, 20, 24), torch.arange(17)
    whole = render(images, indices, 1, 2, views)
    assert torch.equal(render(images.contiguous(memory_format=torch.channels_last), indices, 1, 2, views), whole)
    wide = torch.cat([images, images], 3)[..., :24]
    assert torch.equal(render(wide, indices, 1, 2, views), whole)
    for chunk in (1, 5000):
        monkeypatch.setattr("compress.data.views.CHUNK", chunk)
        assert torch.equal(render(images, indices, 1, 2, views), whole)


@EVERYTHING
def test_images_are_not_changed(views):
    images = noise(8, 12, 12)
    render(images, torch.arange(8), 0, 0, views)
    assert torch.equal(images, noise(8, 12, 12))


@given(st.integers(0, 2**31 - 1), st.integers(0, 1000))
def test_settings_of_nothing_are_the_identity(seed, view):
    assert torch.equal(render(noise(3), torch.arange(3), view, seed, NONE), noise(3))


@EVERYTHING
def test_the_thread_count_changes_nothing(views):
    images, indices = noise(32, 64, 64), torch.arange(32)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(render(images, indices, 3, 5, views))
    torch.set_num_threads(before)
    assert torch.equal(*results)


def test_bits_are_the_same_for_ever():
    """Stored teacher embeddings belong to these very pixels: the chance is splitmix64, done here in whole numbers."""

    def mix(value: int) -> int:
        value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) % 2**64
        value = ((value ^ value >> 27) * 0x94D049BB133111EB) % 2**64
        return value ^ value >> 31

    golden = 0x9E3779B97F4A7C15
    assert mix(1234567 + golden) == 6457827717110365317  # first output of splitmix64 seeded with 1234567
    start = mix((mix((7 + golden) % 2**64) + 4) % 2**64)
    for index in (0, 1, 99_999, 2**40):
        state = mix((mix((index + golden) % 2**64) + start) % 2**64)
        for number in range(5):
            expected = mix((state + number * golden) % 2**64) >> 40
            assert int(Draws(torch.tensor([index]), 4, 7).bits(number)) == expected


@pytest.mark.parametrize(("seed", "view"), [(1, 0), (0, 1)])
def test_seeds_and_views_differ(seed, view):
    images, indices = noise(32), torch.arange(32)
    assert not torch.equal(render(images, indices, seed, view, ALL), render(images, indices, 0, 0, ALL))


def reference(image: np.ndarray, pad: int, down: int, right: int) -> np.ndarray:
    padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)), mode="reflect")
    return padded[:, pad + down :, pad + right :][:, : image.shape[1], : image.shape[2]]


def test_shift_and_mirror_are_numpys_reflect_padding():
    images = noise(400, 8, 8)
    views = render(images, torch.arange(400), 0, 0, Views(shift=0.25, flip=True)).numpy()
    found = []
    for image, view in zip(images.numpy(), views, strict=True):
        moves = {
            (down, right, flip): reference(image, 2, down, right)[:, :, :: -1 if flip else 1]
            for down in range(-2, 3)
            for right in range(-2, 3)
            for flip in (False, True)
        }
        found.append(next(move for move, pixels in moves.items() if np.array_equal(pixels, view)))
    assert {move[:2] for move in found} == {(d, r) for d in range(-2, 3) for r in range(-2, 3)}
    assert 150 < sum(move[2] for move in found) < 250


@pytest.mark.parametrize("kind", ["brightness", "contrast"])
def test_brightness_and_contrast_stay_within_their_range(kind):
    images = noise(300).clamp(60, 180)
    views = render(images, torch.arange(300), 0, 0, Views(**{**NONE.model_dump(), kind: 0.3})).numpy().astype(float)
    pixels = images.numpy().astype(float)
    grey = np.array([0.299, 0.587, 0.114])
    centre = 0 if kind == "brightness" else np.rint(pixels.mean((2, 3)) @ grey)[:, None, None, None]
    far = np.abs(pixels - centre) > 20
    factors = np.where(far, (views - centre) / np.where(far, pixels - centre, 1), 1)
    assert 0.67 < factors.min() < 0.75 and 1.25 < factors.max() < 1.33
    medians = np.array([np.median(f[m]) for f, m in zip(factors, far, strict=True)])
    expected = np.clip(np.rint(centre + medians[:, None, None, None] * (pixels - centre)), 0, 255)
    assert np.abs(views - expected).max() <= 2  # one factor an image
    assert abs(medians.mean() - 1) < 0.04


@pytest.mark.parametrize(
    ("images", "indices", "view"),
    [
        (noise(2).float(), torch.arange(2), 0),
        (noise(2)[:, :1], torch.arange(2), 0),
        (noise(2), torch.arange(3), 0),
        (noise(2), torch.arange(2).int(), 0),
        (noise(2), torch.arange(2), -1),
    ],
)
def test_wrong_arguments(images, indices, view):
    with pytest.raises(ValueError):
        render(images, indices, view, 0, ALL)


@EVERYTHING
@pytest.mark.parametrize("size", [(0, 8, 8), (2, 1, 1), (3, 1, 9), (3, 9, 1), (2, 2, 3)])
def test_an_empty_batch_and_the_smallest_images(views, size):
    count, height, width = size
    assert render(noise(*size), torch.arange(count), 0, 0, views).shape == (count, 3, height, width)


def test_pixels_of_the_first_settings_are_those_of_version_0_1():
    """Cached teacher embeddings are of these pixels."""
    images, indices = noise(20, 9, 13), torch.arange(20) + 10**12
    for views, digest in ((ALL, "d74bb994ec6b8206"), (Views(), "4a246acd0de7b893")):
        pixels = render(images, indices, 3, 5, views).numpy().tobytes()
        assert hashlib.sha256(pixels).hexdigest()[:16] == digest


@EVERYTHING
def test_views_are_rendered_on_the_device_of_the_images(views):
    images, indices = noise(40, 33, 47), torch.arange(40)
    expected = render(images, indices, 2, 1, views)
    with pretended_cuda() as cuda:
        assert torch.equal(render(images.to(cuda), indices, 2, 1, views).cpu(), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@EVERYTHING
def test_a_gpu_gives_the_same_bits(views):
    images, indices = noise(256, 33, 47), torch.arange(256)
    assert torch.equal(render(images.cuda(), indices, 2, 1, views).cpu(), render(images, indices, 2, 1, views))
