"""Orders of epochs: permutations that look random, depend on the seed alone, and take no memory per image."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import chain, islice, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DistributedSampler

from compress.data import large
from compress.data.labels import sort_rows
from compress.data.large import compact
from compress.data.prepared import Split
from compress.training.dataset import ImageDataset, eval_loader, train_loader
from compress.training.order import WINDOW, RankSampler, ShardSampler, ShardShuffle, Shuffle, ShuffledSampler

BILLION = 10**9
MB = 2**20


def whole(count: int, *key: int) -> np.ndarray:
    return Shuffle(count, *key)[np.arange(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 16, 17, 1000, 65_536, 65_537, 300_001])
def test_a_shuffle_is_a_permutation(count: int) -> None:
    found = whole(count, 7, 0)
    assert found.dtype == np.int64 and (np.sort(found) == np.arange(count)).all()


def test_a_shuffle_depends_on_its_key_and_on_nothing_else() -> None:
    first = whole(100_000, 3, 0)
    assert (first == whole(100_000, 3, 0)).all()
    parts = [Shuffle(100_000, 3, 0)[np.arange(100_000)[part::7]] for part in range(7)]
    assert all((first[part::7] == own).all() for part, own in enumerate(parts))
    for other in (whole(100_000, 3, 1), whole(100_000, 4, 0), whole(100_001, 3, 0)[:100_000]):
        assert (first == other).sum() < 10  # one is expected


def test_the_bits_of_a_shuffle_stay() -> None:
    assert Shuffle(BILLION, 0, 0)[np.arange(3)].tolist() == [245679028, 985547740, 619918955]


@pytest.mark.parametrize("count", [2**17 + 1, 200_000, 2**18])
def test_a_shuffle_looks_random(count: int) -> None:
    """Each statistic is within five standard deviations of that of a random permutation."""
    place, found = np.arange(count), whole(count, 11, 2)
    spread = (count**2 - 1) / 12
    for lag in (0, 1, 2, 64, 4096):  # with the place itself, and with what comes later
        other = place if lag == 0 else np.roll(found, lag)
        assert abs(((found - found.mean()) * (other - other.mean())).mean() / spread) < 5 / np.sqrt(count)
    cells = 64  # the square of places and images in cells, of which each should have as many
    counts = np.histogram2d(place, found, bins=cells)[0]
    free = (cells - 1) ** 2
    chi = ((counts - count / cells**2) ** 2 / (count / cells**2)).sum()
    assert abs(chi - free) < 5 * np.sqrt(2 * free)
    steps = np.abs(np.diff(found))  # neighbours are a third of the range apart, and hardly ever neighbours
    assert abs(steps.mean() - count / 3) < 5 * count / np.sqrt(18 * count)
    assert (steps == 1).sum() < 2 + 5 * np.sqrt(2)
    low = np.bincount(found[: count // 8] % 16, minlength=16)  # no class is preferred where classes take turns
    assert (np.abs(low - count / 128) < 5 * np.sqrt(count / 128)).all()


def test_shards_are_shuffled_within_windows() -> None:
    sizes = np.random.default_rng(0).integers(1, 900, 3 * WINDOW + 5)
    starts = np.cumsum([0, *sizes])
    order = ShardShuffle(starts, 5, 1)
    found = order[np.arange(starts[-1])]
    assert (np.sort(found) == np.arange(starts[-1])).all()
    shard = np.searchsorted(starts, found, side="right") - 1
    ends = np.cumsum([0, *(sizes[window].sum() for window in order.windows)])
    for window, (start, end) in zip(order.windows, pairwise(ends), strict=True):
        assert set(shard[start:end]) == set(window.tolist())
        assert abs(np.corrcoef(np.arange(end - start), shard[start:end])[0, 1]) < 5 / np.sqrt(end - start)
    assert (order.shards != np.arange(len(sizes))).sum() > len(sizes) - 8
    assert (order[np.arange(700, 900)] == found[700:900]).all()
    assert (ShardShuffle(starts, 5, 2)[np.arange(1000)] == found[:1000]).sum() < 10


def test_shards_are_announced_a_window_ahead() -> None:
    starts, told = np.arange(0, 100 * 500 + 1, 500), list[list[int]]()
    sampler = ShardSampler(starts, 2, 1, 3, announce=lambda shards: told.append(shards.tolist()))
    for place, image in enumerate(islice(sampler, 15_000)):
        assert image // 500 in told[-1], place
    windows = [window.tolist() for window in ShardShuffle(starts, 3, 0).windows]
    assert told == [[*chain(*windows[number : number + 2])] for number in range(len(told))] and len(told) >= 2


@pytest.mark.parametrize(("count", "world"), [(1, 4), (7, 2), (8, 2), (10, 4), (3, 8), (200_000, 3)])
def test_ranks_in_order_have_what_pytorch_deals_them(count: int, world: int) -> None:
    images: Any = range(count)
    for rank in range(world):
        theirs: DistributedSampler[int] = DistributedSampler(images, world, rank, shuffle=False)
        assert list(RankSampler(count, world, rank)) == list(theirs)
        assert len(RankSampler(count, world, rank)) == len(theirs)


@pytest.mark.parametrize("starts", [(), (0, 40_000, 90_000, 200_001)])
def test_ranks_share_the_images_of_an_epoch(starts: tuple[int, ...]) -> None:
    samplers: list[ShuffledSampler | ShardSampler] = [
        ShardSampler(np.array(starts), 2, rank, 3) if starts else ShuffledSampler(200_001, 2, rank, 3)
        for rank in range(2)
    ]
    for sampler in samplers:
        sampler.set_epoch(4)
    dealt = [list(sampler) for sampler in samplers]
    assert [len(own) for own in dealt] == [100_000, 100_000] and len(set(dealt[0] + dealt[1])) == 200_000
    assert list(samplers[0]) == dealt[0]
    samplers[0].set_epoch(5)
    assert list(samplers[0]) != dealt[0]


class Claimed:
    """Images or labels of which there are only a number and the rows that are asked for."""

    nbytes = 0

    def __init__(self, count: int, *shape: int) -> None:
        self.shape = (count, *shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        values = (rows % 97).astype(np.uint8)
        return np.broadcast_to(values.reshape(-1, *[1] * (len(self.shape) - 1)), (len(rows), *self.shape[1:]))


@pytest.fixture
def traced() -> Iterator[Any]:
    """Gives the largest number of bytes that Python and NumPy had at once since the start of the test."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


def test_memory_of_batches_does_not_grow_with_the_images(traced: Any) -> None:
    labelled: Any = SimpleNamespace(images=Claimed(BILLION, 3, 8, 8), labels=Claimed(BILLION))
    hidden: Any = SimpleNamespace(images=Claimed(BILLION // 2, 3, 8, 8), labels=None)
    images = ImageDataset([labelled, hidden])
    seen = []
    for epoch in (0, 1):
        loader = train_loader(images, 256, 2, 1, seed=3, epoch=epoch)
        assert len(loader) == len(images) // 512
        for batch in islice(loader, 60):
            index = batch["index"].numpy()
            assert (batch["labels"].numpy() == np.where(index < BILLION, index % 97, -1)).all()
            seen.append(index)
    drawn = np.concatenate(seen)
    assert abs((drawn >= BILLION).mean() - 1 / 3) < 0.015 and len(np.unique(drawn)) > 0.999 * len(drawn)
    assert next(iter(eval_loader(images, 4, 2, 1)))["index"].tolist() == [1, 3, 5, 7]
    assert traced() < 24 * MB


def test_memory_of_shards_grows_with_their_number_only(traced: Any) -> None:
    starts = np.append(np.arange(0, BILLION, 65_536), BILLION)
    sampler = ShardSampler(starts, 1, 0, 3)
    assert len(set(islice(sampler, 200_000))) == 200_000
    assert traced() < 24 * MB


def test_labels_of_large_sets_are_small_and_stay_in_their_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, traced: Any
) -> None:
    monkeypatch.setattr(large, "LARGE", 10**6)
    labels = np.arange(4 * 10**6) % 1000
    assert compact(labels, 1000).dtype == np.int16 and compact(labels % 100, 100).dtype == np.int8
    assert (compact(labels, 1000) == labels).all() and compact(labels[:1000], 1000).dtype == np.int64
    np.save(tmp_path / "labels.npy", compact(labels, 1000))
    tracemalloc.clear_traces()
    tracemalloc.reset_peak()
    before = traced()
    mapped: Any = np.load(tmp_path / "labels.npy", mmap_mode="r")
    images = ImageDataset([Split(Claimed(len(labels), 3, 8, 8), mapped)])
    index = np.array([3_999_999, 0, 1_000_001])
    found = images.labels(index)
    assert found.dtype == np.int64 and found.tolist() == [999, 0, 1]
    assert traced() - before < MB


def test_labels_of_rows_are_read_in_a_few_bytes_each(traced: Any) -> None:
    count = 200_000
    rows = (("train" if row % 50 else "test", f"class {row % 997:03}") for row in range(count))
    found = sort_rows(rows, None, "here", str)
    assert [len(found.parts[part][0]) for part in ("train", "test")] == [count - count // 50, count // 50]
    assert found.parts["test"][1] is not None and len(set(found.parts["test"][1].tolist())) == 997
    assert traced() < 32 * count


def test_neighbouring_seeds_share_no_order() -> None:
    labelled: Any = SimpleNamespace(images=Claimed(1000, 3, 8, 8), labels=Claimed(1000))
    images: Any = ImageDataset([labelled])
    orders = {
        (seed, epoch): tuple(train_loader(images, 10, 1, 0, seed=seed, epoch=epoch).sampler)
        for seed in range(4)
        for epoch in range(4)
    }
    assert len(set(orders.values())) == len(orders)
    assert orders[3, 2] == tuple(whole(1000, 3, 2).tolist())
