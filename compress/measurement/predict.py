"""Logits of images, batch by batch, in PyTorch or in a runtime.

The bits of a logit depend on the batch that its image is in and on the memory format of its pixels, so both are the
caller's to set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.measurement.batch_size import BatchSize
from compress.measurement.device import CPU, device_of, exact_float32
from compress.measurement.transfer import Outputs, batches_on
from compress.utils.console import task

Logits = NDArray[np.float32]
Runner = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Images float32 `[b, 3, r, r]`, contiguous, to logits `[b, classes]`."""


@torch.inference_mode()
def predict_split(
    model: nn.Module,
    preprocess: Preprocess,
    split: Split,
    batch: int | BatchSize,
    *,
    memory_format: torch.memory_format | None = None,
    progress: str = "",
) -> Logits:
    """Compute the logits of a split in PyTorch, on the device of the network, in the order of the split's images.

    Args:
        model: Images float32 `[b, 3, r, r]` to logits `[b, classes]`, in eval mode. Its weights keep the memory format
            that they have.
        preprocess: From stored pixels to the input of `model`.
        split: The images; their labels are not read.
        batch: Images per forward pass; the last pass may have fewer. Where the memory of a GPU does not suffice, all
            are computed again in batches of half the size; a `BatchSize` keeps that for the next split.
        memory_format: Memory format of the input; None for that of what `preprocess` returns.
        progress: Text of a progress bar; none is shown without it.

    Returns:
        Logits float32 `[images, classes]`.

    Raises:
        ValueError: the split has no images.
    """
    device = device_of(model)
    size = batch if isinstance(batch, BatchSize) else BatchSize(batch, progress or "evaluation", device)

    def logits_of(images: int) -> Logits:
        logits = Outputs(device)
        for pixels in _shown(split_batches(split, preprocess, images, device=device), progress, len(split)):
            pixels = pixels if memory_format is None else pixels.contiguous(memory_format=memory_format)
            logits.add(model(pixels).float())
        return _concatenated(logits.arrays())

    with exact_float32(device):
        return size.fit(logits_of)


def predict_split_in_runtime(
    run: Runner, preprocess: Preprocess, split: Split, batch: int, *, progress: str = ""
) -> Logits:
    """Compute the logits of a split in a runtime; see `predict_split`."""
    batches = _shown(split_batches(split, preprocess, batch), progress, len(split))
    return predict(run, (pixels.numpy() for pixels in batches))


def predict(run: Runner, batches: Iterable[NDArray[np.floating]]) -> Logits:
    """Compute the logits of all images of `batches` in a runtime.

    Args:
        run: Images float32 `[b, 3, r, r]` to logits `[b, classes]`.
        batches: Images `[b, 3, r, r]`, normalised, of any float type and memory layout.

    Returns:
        Logits float32 `[images, classes]`.

    Raises:
        ValueError: there are no images.
    """
    return _concatenated([np.asarray(run(np.ascontiguousarray(batch, np.float32)), np.float32) for batch in batches])


def split_batches(
    split: Split,
    preprocess: Preprocess,
    batch: int,
    rows: NDArray[np.int64] | None = None,
    device: torch.device = CPU,
) -> Iterator[Tensor]:
    """Yield the network's input for the images of a split, float32 `[b, 3, r, r]`.

    Args:
        split: Images uint8 `[n, 3, h, w]`.
        preprocess: From stored pixels to the input of a network.
        batch: Images per batch; the last one may have fewer.
        rows: Numbers of the images to take, in this order; None for all.
        device: Where they are preprocessed and yielded.
    """
    for pixels in batches_on(device, (split.images[chosen] for chosen in _row_batches(split, batch, rows))):
        yield preprocess(pixels)


def labelled_batches(
    split: Split,
    preprocess: Preprocess,
    batch: int,
    rows: NDArray[np.int64] | None = None,
    device: torch.device = CPU,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield `(pixels, labels)` of a labelled split, labels int64 `[b]`; see `split_batches`."""
    assert split.labels is not None
    labels = (
        torch.from_numpy(split.labels[chosen].astype(np.int64)).to(device)
        for chosen in _row_batches(split, batch, rows)
    )
    yield from zip(split_batches(split, preprocess, batch, rows, device), labels, strict=True)


def _row_batches(split: Split, batch: int, rows: NDArray[np.int64] | None) -> Iterator[NDArray[np.int64]]:
    rows = np.arange(len(split)) if rows is None else rows
    for start in range(0, len(rows), batch):
        yield rows[start : start + batch]


def _shown(batches: Iterable[Tensor], progress: str, images: int) -> Iterator[Tensor]:
    """Yield the batches and show how many images have been taken."""
    if not progress:
        yield from batches
        return
    with task(progress, images) as advance:
        for pixels in batches:
            yield pixels
            advance(len(pixels))


def _concatenated(logits: list[NDArray[np.float32]]) -> Logits:
    if not logits:
        raise ValueError("there are no images to predict")
    return np.concatenate(logits)
