"""The order of images in an epoch, computed from the seed as it is needed: memory does not grow with the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from compress.data.large import BLOCK

Indices = NDArray[np.int64]
ROUNDS = 8  # of the Feistel network; four are indistinguishable from random ones (Luby and Rackoff 1988)
WINDOW = 16  # shards whose images are shuffled together
SHARD_BLOCK = 2**10  # places at a time where shards are shuffled, so that those that are needed next are known in time


class Order(Protocol):
    """An order of images."""

    def __getitem__(self, places: Indices, /) -> Indices:
        """Return the images int64 `[n]` at places `[n]` of the order."""
        ...


class Shuffle:
    """A random permutation of `range(count)` that is computed place by place.

    PyTorch's `DistributedSampler` adds the epoch to the seed, so that neighbouring seeds have the same orders, an epoch
    apart; here each pair of seed and epoch has an order of its own.

    A Feistel network on the smallest power of two that holds `count`, with tables of random numbers as its round
    functions, permutes that power of two. Results of `count` or more are permuted again until they are below it: at
    most two rounds through the network on average (cycle walking, Black and Rogaway 2002). The tables take
    8 * 4 * sqrt(2 * count) bytes or so, 1.5 MB for 10^9 images.

    Args:
        count: Number of images.
        key: Determines the permutation: whole numbers from 0 on.
    """

    def __init__(self, count: int, *key: int) -> None:
        self.count = count
        bits = max(count - 1, 3).bit_length()
        self._low = bits // 2
        sizes = (self._low, bits - self._low)  # bits of the lower and upper part, which are permuted in turn
        draw = np.random.PCG64([count, *key])  # the stream of a bit generator is the same in every NumPy
        self._tables = [
            (draw.random_raw(1 << sizes[turn]) & np.uint64((1 << sizes[1 - turn]) - 1)).astype(np.int32)
            for turn in (0, 1) * (ROUNDS // 2)
        ]

    def __getitem__(self, places: Indices) -> Indices:
        found = self._permute(np.asarray(places, np.int64))
        outside = np.flatnonzero(found >= self.count)
        while len(outside):
            found[outside] = again = self._permute(found[outside])
            outside = outside[again >= self.count]
        return found

    def _permute(self, places: Indices) -> Indices:
        low = (places & ((1 << self._low) - 1)).astype(np.int32)
        high = (places >> self._low).astype(np.int32)
        for of_low, of_high in zip(self._tables[::2], self._tables[1::2], strict=True):
            high ^= of_low[low]
            low ^= of_high[high]
        return (high.astype(np.int64) << self._low) | low


class ShardShuffle:
    """Shards in random order; the images of every `WINDOW` shards in a row are shuffled together.

    Images of few shards are needed at a time, so that those at a URL can be downloaded meanwhile, and files on a disk
    are read from a few places. Images of one shard should therefore not be of one class.

    Args:
        starts: First image of each shard, and after them the number of images; ascending, from 0.
        key: Determines the order: whole numbers from 0 on.
        announce: Called with the shards of a window and of the next one before images of the window are named.
    """

    def __init__(self, starts: Indices, *key: int, announce: Callable[[Indices], None] | None = None) -> None:
        self._key, self._announce, self._announced = key, announce, -1
        sizes = np.diff(starts)
        self.shards = Shuffle(len(sizes), *key)[np.arange(len(sizes))]  # in the order of the epoch
        self._first = starts[self.shards]  # image of each
        self._ends = np.cumsum([0, *sizes[self.shards]])  # places of the order

    @property
    def windows(self) -> list[Indices]:
        """The shards of each window, in order."""
        return [self.shards[first : first + WINDOW] for first in range(0, len(self.shards), WINDOW)]

    def __getitem__(self, places: Indices) -> Indices:
        places = np.asarray(places, np.int64)
        window = (np.searchsorted(self._ends, places, side="right") - 1) // WINDOW
        found = np.empty(len(places), np.int64)
        if self._announce and len(window) and window[0] != self._announced:
            self._announced = int(window[0])
            self._announce(self.shards[self._announced * WINDOW :][: 2 * WINDOW])
        for number in np.unique(window).tolist():
            here, first = window == number, number * WINDOW
            start, end = self._ends[first], self._ends[min(first + WINDOW, len(self.shards))]
            place = start + Shuffle(int(end - start), *self._key, number)[places[here] - start]
            shard = np.searchsorted(self._ends, place, side="right") - 1
            found[here] = self._first[shard] + place - self._ends[shard]
        return found


class RankSampler(Sampler[int]):
    """A rank's share of the images, dealt out in turn: those of PyTorch's `DistributedSampler` without a list of them.

    Args:
        images: Number of images.
        world: Number of ranks.
        rank: The one whose share it is.
        drop_last: Leave out images beyond the last of which every rank has one; otherwise the first ones are repeated.
    """

    def __init__(self, images: int, world: int, rank: int, *, drop_last: bool = False) -> None:
        self.images, self.world, self.rank, self.epoch = images, world, rank, 0
        self._count = images // world if drop_last else -(-images // world)
        self._block = BLOCK

    def __len__(self) -> int:
        return self._count

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the epoch, from 0."""
        self.epoch = epoch

    def order(self) -> Order | None:
        """Return the order of the epoch; None for that of the images."""
        return None

    def __iter__(self) -> Iterator[int]:
        order = self.order()
        for first in range(0, self._count, self._block):
            places = np.arange(first, min(first + self._block, self._count)) * self.world + self.rank
            places %= self.images
            yield from (places if order is None else order[places]).tolist()


class ShuffledSampler(RankSampler):
    """A rank's share of the images, in an order that depends on the seed and the epoch alone; see `RankSampler`."""

    def __init__(self, images: int, world: int, rank: int, seed: int, *, drop_last: bool = True) -> None:
        super().__init__(images, world, rank, drop_last=drop_last)
        self.seed = seed

    def order(self) -> Order:
        """Return the order of the epoch."""
        return Shuffle(self.images, self.seed, self.epoch)


class ShardSampler(RankSampler):
    """A rank's share of the images, in the order of `ShardShuffle`; see there and at `RankSampler`."""

    def __init__(
        self,
        starts: Indices,
        world: int,
        rank: int,
        seed: int,
        *,
        drop_last: bool = True,
        announce: Callable[[Indices], None] | None = None,
    ) -> None:
        super().__init__(int(starts[-1]), world, rank, drop_last=drop_last)
        self.seed, self._starts, self._announce, self._block = seed, starts, announce, SHARD_BLOCK

    def order(self) -> Order:
        """Return the order of the epoch."""
        return ShardShuffle(self._starts, self.seed, self.epoch, announce=self._announce)
