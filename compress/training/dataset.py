"""The images that a network is fitted on, given out as whole batches.

Loaders have a generator of their own: without one they draw from the global one, at another moment in a resumed fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from compress.data.prepared import Split


class Images(Dataset[dict[str, Tensor]]):
    """Images of several splits in a row: uint8 pixels, index and label (-1: none) of whole batches."""

    def __init__(self, splits: Sequence[Split]) -> None:
        self.arrays = [split.images for split in splits]
        self.starts = np.cumsum([0] + [len(array) for array in self.arrays])
        self.labels = np.concatenate(
            [np.full(len(s.images), -1) if s.labels is None else np.asarray(s.labels) for s in splits]
        ).astype(np.int64)
        self.resident: Tensor | None = None

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def bytes(self) -> int:
        """What all pixels take."""
        return sum(array.nbytes for array in self.arrays)

    def keep_on(self, device: torch.device) -> None:
        """Keep all pixels on the device: batches then name their images and are cut there."""
        shape = self.arrays[0].shape[1:]
        self.resident = torch.empty((len(self), *shape), dtype=torch.uint8, device=device)
        for array, start in zip(self.arrays, self.starts, strict=False):
            for first in range(0, len(array), 4096):
                block = np.array(array[first : first + 4096])
                self.resident[start + first : start + first + len(block)] = torch.from_numpy(block)

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Pixels uint8 `[b, 3, h, w]` of the images with these numbers."""
        pixels = np.empty((len(index), *self.arrays[0].shape[1:]), np.uint8)
        for array, start, end in zip(self.arrays, self.starts, self.starts[1:], strict=False):
            chosen = np.flatnonzero((index >= start) & (index < end))
            pixels[chosen] = array[index[chosen] - start]
        return pixels

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        index = np.asarray(indices)
        batch = {"index": torch.from_numpy(index), "labels": torch.from_numpy(self.labels[index])}
        if self.resident is None:
            batch["images"] = torch.from_numpy(self.rows(index))
        return batch

    def pixels(self, batch: dict[str, Tensor]) -> Tensor:
        """Pixels of a batch, on its device."""
        return batch["images"] if self.resident is None else self.resident[batch["index"]]


def shuffled(images: Images, batch: int, world: int, rank: int, seed: int) -> DataLoader[dict[str, Tensor]]:
    """This rank's share of the images, in another order each epoch; a last part of a batch is left out."""
    whole = len(images) >= batch * world
    sampler: DistributedSampler[Any] = DistributedSampler(images, world, rank, seed=seed, drop_last=whole)
    return DataLoader(
        images, batch, sampler=sampler, collate_fn=_as_it_is, drop_last=whole, generator=torch.Generator()
    )


def in_order(images: Images, batch: int, world: int, rank: int) -> DataLoader[dict[str, Tensor]]:
    """This rank's share of the images."""
    sampler: DistributedSampler[Any] = DistributedSampler(images, world, rank, shuffle=False)
    return DataLoader(images, batch, sampler=sampler, collate_fn=_as_it_is, generator=torch.Generator())


def _as_it_is(batch: Any) -> Any:
    return batch
