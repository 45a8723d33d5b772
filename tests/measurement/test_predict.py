from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.measurement.predict import (
    labelled_batches,
    predict,
    predict_split,
    predict_split_in_runtime,
    split_batches,
)

PREPROCESS = Preprocess(8, (0.5, 0.4, 0.3), (0.25, 0.25, 0.2))
IMAGES = np.random.default_rng(0).integers(0, 256, (7, 3, 10, 8), dtype=np.uint8)
SPLIT = Split(IMAGES, np.arange(7, dtype=np.int64))


class Recorder(nn.Module):
    """Means of the channels, with the batches that it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, bool, bool]] = []

    def forward(self, pixels: Tensor) -> Tensor:
        channels_last = pixels.is_contiguous(memory_format=torch.channels_last)
        self.seen.append((len(pixels), channels_last, torch.is_inference_mode_enabled()))
        return pixels.double().mean((2, 3))


def expected() -> np.ndarray:
    return PREPROCESS(torch.from_numpy(IMAGES)).double().mean((2, 3)).float().numpy()


@pytest.mark.parametrize("memory_format", [None, torch.contiguous_format, torch.channels_last])
def test_a_split_is_predicted_in_order_in_batches_of_the_size_and_format_given(
    memory_format: torch.memory_format | None,
) -> None:
    model = Recorder()
    logits = predict_split(model, PREPROCESS, SPLIT, 3, memory_format=memory_format)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected(), rtol=1e-6)
    assert model.seen == [(n, memory_format == torch.channels_last, True) for n in (3, 3, 1)]


def test_the_weights_of_the_network_keep_their_memory_format() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2)).eval()
    predict_split(model, PREPROCESS, SPLIT, 4, memory_format=torch.channels_last)
    assert model.get_parameter("0.weight").is_contiguous()


def test_a_runtime_gets_contiguous_float32_and_gives_the_same_logits() -> None:
    seen = []

    def run(pixels: np.ndarray) -> np.ndarray:
        seen.append((len(pixels), pixels.dtype, pixels.flags.c_contiguous))
        return pixels.astype(np.float64).mean((2, 3))

    logits = predict_split_in_runtime(run, PREPROCESS, SPLIT, 5, progress="tiny: test images")
    np.testing.assert_allclose(logits, expected(), rtol=1e-6)
    assert seen == [(5, np.float32, True), (2, np.float32, True)]


def test_labelled_batches_take_the_rows_in_the_order_given() -> None:
    rows = np.array([6, 0, 3])
    first, last = labelled_batches(SPLIT, PREPROCESS, 2, rows)
    assert first[1].tolist() == [6, 0] and last[1].tolist() == [3]
    assert torch.equal(torch.cat([first[0], last[0]]), PREPROCESS(torch.from_numpy(IMAGES[rows])))
    assert torch.equal(next(split_batches(SPLIT, PREPROCESS, 2, rows)), first[0])


def test_a_split_without_images_is_refused() -> None:
    with pytest.raises(ValueError, match="no images to predict"):
        predict_split(Recorder(), PREPROCESS, Split(IMAGES[:0], None), 4)


def test_predict_runs_every_batch_as_float32() -> None:
    seen = []

    def run(images: np.ndarray) -> np.ndarray:
        seen.append((images.shape, images.dtype, images.flags.c_contiguous))
        return images.sum((2, 3)).astype(np.float64)

    logits = predict(run, [np.ones((2, 3, 4, 4)), np.zeros((1, 4, 4, 3)).transpose(0, 3, 1, 2)])
    assert logits.tolist() == [[16.0] * 3] * 2 + [[0.0] * 3]
    assert logits.dtype == np.float32
    assert seen == [((2, 3, 4, 4), np.float32, True), ((1, 3, 4, 4), np.float32, True)]
    with pytest.raises(ValueError, match="no images"):
        predict(run, [])
