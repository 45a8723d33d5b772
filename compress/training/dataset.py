"""The images that a network is fitted on, loaded as whole batches.

Loaders have a generator of their own: without one they draw from the global one, at another moment in a resumed fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from compress.data.lazy_shards import prefetch
from compress.data.originals import FileImages
from compress.data.prepared import Split
from compress.training.order import RankSampler, ShardSampler, ShuffledSampler
from compress.training.shared_memory import PREFETCH, workers_that_fit
from compress.utils.processes import require_main_guard


class Batch(TypedDict):
    """A batch of b images: index and label int64 `[b]` (-1: none), and uint8 `[b, 3, h, w]` unless preloaded."""

    index: Tensor
    labels: Tensor
    images: NotRequired[Tensor]


class ImageDataset(Dataset[Batch]):
    """The images of several splits, one after another. Labels stay where they are, in memory or in a mapped file."""

    def __init__(self, splits: Sequence[Split]) -> None:
        self.arrays = [split.images for split in splits]
        self.starts = np.cumsum([0] + [len(array) for array in self.arrays])
        self._labels = [split.labels for split in splits]
        self.preloaded: Tensor | None = None

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return sum(array.nbytes for array in self.arrays)

    @property
    def files(self) -> list[FileImages]:
        """Splits whose images are decoded when they are read."""
        return [array for array in self.arrays if isinstance(array, FileImages)]

    def shard_runs(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the first image of each run of images of one shard, with the number of images last, and its shard."""
        runs = [array.shard_runs() for array in self.files]
        firsts = [first + start for (first, _), start in zip(runs, self.starts, strict=False)]
        return np.concatenate([*firsts, self.starts[-1:]]), np.concatenate([shard for _, shard in runs])

    def preload(self, device: torch.device) -> None:
        """Copy all pixels to the device; batches then only have indices, and are cut there.

        Images that are decoded when they are read are not copied.
        """
        if self.files:
            return
        shape = self.arrays[0].shape[1:]
        self.preloaded = torch.empty((len(self), *shape), dtype=torch.uint8, device=device)
        for array, start in zip(self.arrays, self.starts, strict=False):
            for first in range(0, len(array), 4096):
                block = np.array(array[first : first + 4096])
                self.preloaded[start + first : start + first + len(block)] = torch.from_numpy(block)

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Return the pixels uint8 `[b, 3, h, w]` of the images `index`."""
        pixels = np.empty((len(index), *self.arrays[0].shape[1:]), np.uint8)
        for split, places, rows in self._by_split(index):
            pixels[places] = self.arrays[split][rows]
        return pixels

    def labels(self, index: np.ndarray) -> np.ndarray:
        """Return the labels int64 `[b]` of the images `index`, -1 for those without."""
        found = np.full(len(index), -1, np.int64)
        for split, places, rows in self._by_split(index):
            labels = self._labels[split]
            if labels is not None:
                found[places] = labels[rows]
        return found

    def _by_split(self, index: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield for each split its number, where in `index` its images are, and their rows in the split."""
        for split, (start, end) in enumerate(pairwise(self.starts)):
            places = np.flatnonzero((index >= start) & (index < end))
            yield split, places, index[places] - start

    def __getitems__(self, indices: list[int]) -> Batch:
        index = np.asarray(indices)
        batch = Batch(index=torch.from_numpy(index), labels=torch.from_numpy(self.labels(index)))
        if self.preloaded is None:
            batch["images"] = torch.from_numpy(self.rows(index))
        return batch

    def pixels(self, batch: Batch) -> Tensor:
        """Return the pixels of a batch, uint8 `[b, 3, h, w]`, on its device."""
        return batch["images"] if self.preloaded is None else self.preloaded[batch["index"]]


def train_loader(
    images: ImageDataset, batch: int, world: int, rank: int, seed: int, epoch: int = 0, *, pinned: bool = False
) -> DataLoader[Batch]:
    """Load this rank's share of the images, shuffled anew in each epoch; an incomplete last batch is dropped.

    `epoch` is the number of the first one: Lightning starts the workers of a resumed fit before it tells the sampler.
    From `pinned` memory, batches are copied to a GPU while it computes.
    """
    whole = len(images) >= batch * world
    sampler = _shuffled(images, world, rank, seed, drop_last=whole)
    sampler.set_epoch(epoch)
    return _loader(images, batch, sampler, world, drop_last=whole, pinned=pinned)


def _shuffled(
    images: ImageDataset, world: int, rank: int, seed: int, *, drop_last: bool
) -> ShuffledSampler | ShardSampler:
    if any(array.originals.settings.order == "shards" for array in images.files):
        files = images.files[0].originals.listing.shards
        starts, shards = images.shard_runs()

        def announce(runs: np.ndarray) -> None:
            prefetch([files[shard] for shard in dict.fromkeys(shards[runs].tolist())])

        return ShardSampler(starts, world, rank, seed, drop_last=drop_last, announce=announce)
    return ShuffledSampler(len(images), world, rank, seed, drop_last=drop_last)


def eval_loader(images: ImageDataset, batch: int, world: int, rank: int, *, pinned: bool = False) -> DataLoader[Batch]:
    """Load this rank's share of the images, in order."""
    return _loader(images, batch, RankSampler(len(images), world, rank), world, pinned=pinned)


def _loader(
    images: ImageDataset,
    batch: int,
    sampler: Sampler[int],
    world: int,
    *,
    drop_last: bool = False,
    pinned: bool = False,
) -> DataLoader[Batch]:
    """Load batches, by worker processes where images have to be decoded; the batches are the same without them."""
    wanted = max((array.worker_count(world) for array in images.files), default=0)
    share = -(-len(images) // world)
    workers = workers_that_fit(wanted, share, batch, images.nbytes // max(1, len(images)), world)
    if workers:
        require_main_guard()
    return DataLoader(
        images,
        batch,
        sampler=sampler,
        collate_fn=_identity,
        drop_last=drop_last,
        generator=torch.Generator(),
        num_workers=workers,
        prefetch_factor=PREFETCH if workers else None,
        pin_memory=pinned,
        persistent_workers=workers > 0,
        worker_init_fn=_start_worker,
    )


def _start_worker(_: int) -> None:
    worker = get_worker_info()
    assert worker and isinstance(worker.dataset, ImageDataset)
    for array in worker.dataset.files:
        array.threads = 1  # the workers are as many as the cores


def _identity(batch: Any) -> Any:
    return batch
