"""Batches on their way to a device, and outputs on their way back, while it computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LAG = 2  # batches whose outputs a GPU may still compute while the next one is prepared


def batches_on(device: torch.device, batches: Iterator[NDArray[Any]]) -> Iterator[Tensor]:
    """Yield batches as tensors on a device.

    For a device other than the CPU, the next batch is read by a thread, and for CUDA copied from pinned memory in a
    stream of its own, while the device computes on the one before.
    """
    if device.type == "cpu":
        yield from map(torch.from_numpy, batches)
        return
    copies = _Copies(device)

    def read() -> Tensor | None:
        array = next(batches, None)
        return None if array is None else copies.staged(array)

    with ThreadPoolExecutor(1) as reader:
        first = read()
        coming = None if first is None else copies.start(first)
        while coming is not None:
            following = reader.submit(read)
            yield copies.arrived(coming)
            staged = following.result()
            coming = None if staged is None else copies.start(staged)


class Outputs:
    """Outputs of a device `[b, ...]`, gathered on the CPU without waiting for the last batches."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._arrays: list[NDArray[Any]] = []
        self._coming: deque[tuple[Tensor, torch.cuda.Event]] = deque()

    def add(self, output: Tensor) -> None:
        """Begin to copy an output."""
        if self.device.type != "cuda":
            self._arrays.append(output.cpu().numpy())
            return
        copied = output.to("cpu", non_blocking=True)  # into pinned memory; readable after the event
        self._coming.append((copied, torch.cuda.current_stream(self.device).record_event()))
        while len(self._coming) > LAG:
            self._fetch()

    def arrays(self) -> list[NDArray[Any]]:
        """Return all outputs, in order."""
        while self._coming:
            self._fetch()
        return self._arrays

    def _fetch(self) -> None:
        copied, event = self._coming.popleft()
        event.synchronize()
        self._arrays.append(copied.numpy())


class _Copies:
    """Copies to a device; for CUDA in a stream beside the one that computes."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def staged(self, array: NDArray[Any]) -> Tensor:
        """Return a batch in memory from which the device can copy by itself."""
        pixels = torch.from_numpy(np.ascontiguousarray(array))
        return pixels.pin_memory() if self.stream else pixels

    def start(self, pixels: Tensor) -> Tensor:
        """Begin to copy a staged batch."""
        if self.stream is None:
            return pixels.to(self.device)
        with torch.cuda.stream(self.stream):
            return pixels.to(self.device, non_blocking=True)

    def arrived(self, pixels: Tensor) -> Tensor:
        """Let what is computed next on the device wait for a copy."""
        if self.stream is not None:
            computing = torch.cuda.current_stream(self.device)
            computing.wait_stream(self.stream)
            pixels.record_stream(computing)
        return pixels
