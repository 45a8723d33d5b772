"""Shards at a URL that are downloaded as they are read: the same data from a disk that holds a part of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from data.packing import packer, rows_of, write_tars
from data.test_urls import at, put, shards_of

from compress.data import arrow, lazy_shards, webdataset
from compress.data.prepared import ImageData, prepare
from compress.data.remote_shards import list_remote
from compress.data.sources import data_key
from compress.data.webdataset import SHARDS
from compress.recipe.load import parse_recipe
from compress.store.shared import SharedFolder
from compress.store.store import Store
from compress.training.dataset import ImageDataset, train_loader
from compress.utils.errors import CompressError, RecipeError, UsageError

pytestmark = pytest.mark.usefixtures("shard_cache")


@pytest.fixture(autouse=True)
def no_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lazy_shards, "_CACHES", {})
    monkeypatch.setattr(lazy_shards, "MIN_SHARDS", 2)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the shards that were downloaded, in order."""
    names: list[str] = []
    fetch = SharedFolder.download

    def counted(folder: SharedFolder, name: str, target: Path) -> bool:
        names.append(name)
        return fetch(folder, name, target)

    monkeypatch.setattr(SharedFolder, "download", counted)
    return names


def lazily(settings: Any, url: str, shards: float) -> Any:
    """Return settings of shards at a URL, as many of which are kept on the disk."""
    largest = max(each.bytes for each in list_remote(url, settings.shard_endings).shards)
    more = {"images": "files", "order": "shards", "workers": 0, "cache_gb": (shards * largest + 1) / 1e9}
    return at(settings.model_copy(update=more), url)


def stored(shard_cache: Path) -> int:
    return sum(path.stat().st_size for path in shard_cache.rglob("*") if path.suffix in (".tar", ".parquet"))


def epoch(data: ImageData, number: int = 0) -> Iterator[Any]:
    return iter(train_loader(ImageDataset([data.train, data.unlabeled]), 2, 1, 0, seed=3, epoch=number))


@pytest.mark.parametrize("source", ["webdataset", "parquet"])
def test_images_of_shards_that_come_and_go_are_those_of_local_ones(
    source: str, photos: Path, bucket: SharedFolder, shard_cache: Path, tmp_path: Path, asked: list[str]
) -> None:
    settings = packer(source)(rows_of(photos), tmp_path / "packed")
    put(tmp_path / "packed", bucket)
    remote = lazily(settings, bucket.url, 2)
    local = settings.model_copy(update={"images": "files", "order": "shards", "workers": 0})
    here, there = prepare(local, Store(tmp_path / "1"), 0), prepare(remote, Store(tmp_path / "2"), 0)
    in_order = settings.model_copy(update={"images": "files"})
    assert here.key == there.key == data_key(in_order, 0), "the same data, which training takes in another order"
    limit = remote.cache_gb * 1e9
    asked.clear()
    for number in range(2):
        for one, other in zip(epoch(here, number), epoch(there, number), strict=True):
            assert all((one[name] == other[name]).all() for name in ("index", "labels", "images"))  # type: ignore[literal-required]
            assert stored(shard_cache) <= limit
    assert len(asked) > len({name for name in asked if not name.startswith("test")})  # some were needed again
    assert (there.test.images[:] == here.test.images[:]).all()


def test_what_fits_is_downloaded_once(
    photos: Path, bucket: SharedFolder, tmp_path: Path, asked: list[str], shard_cache: Path
) -> None:
    local = write_tars(rows_of(photos), tmp_path / "tars")
    put(Path(local.path), bucket)
    data = prepare(lazily(local, bucket.url, 20), Store(tmp_path / "1"), 0)
    for number in range(2):
        assert sum(len(batch["index"]) for batch in epoch(data, number)) >= 18
    assert sorted(asked) == sorted(each.name for each in list_remote(bucket.url, SHARDS).shards)
    again = prepare(lazily(local, bucket.url, 20), Store(tmp_path / "1"), 0)  # nothing is read for what is known
    assert again.key == data.key and len(asked) == len(set(asked))


@pytest.mark.parametrize("source", ["webdataset", "parquet"])
def test_another_process_lists_what_one_has_listed(
    source: str, photos: Path, bucket: SharedFolder, tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed fit, another device or a data loader's worker: it downloads what it reads, and nothing to know it."""
    local = packer(source)(rows_of(photos), tmp_path / "packed")
    put(tmp_path / "packed", bucket)
    settings = lazily(local, bucket.url, 2)
    prepare(settings, Store(tmp_path / "1"), 0)
    monkeypatch.setattr(lazy_shards, "_CACHES", {})
    monkeypatch.setattr(webdataset, "_SAMPLES", {})
    arrow._columns.cache_clear()
    asked.clear()
    data = prepare(settings, Store(tmp_path / "1"), 0)
    batches = epoch(data)
    assert asked == []
    assert sum(len(batch["index"]) for batch in batches) >= 18 and asked


def test_a_shard_that_is_removed_while_it_is_opened_is_downloaded_again(
    photos: Path, bucket: SharedFolder, tmp_path: Path
) -> None:
    local = write_tars(rows_of(photos), tmp_path / "tars")
    put(Path(local.path), bucket)
    file, *_ = lazy_shards.lazy_files(list_remote(bucket.url, SHARDS), lazily(local, bucket.url, 20).cache_gb)
    tries = list[bytes]()

    def read(found: Path) -> bytes:
        tries.append(found.read_bytes())
        if len(tries) < 3:
            found.unlink()  # by another process
            return found.read_bytes()
        return tries[-1]

    assert lazy_shards.open_present(file, read) == tries[0] == tries[2]


def test_a_worker_elsewhere_downloads_what_it_reads(
    photos: Path, bucket: SharedFolder, tmp_path: Path, shard_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = write_tars(rows_of(photos), tmp_path / "tars")
    put(Path(local.path), bucket)
    settings = lazily(local, bucket.url, 20)
    data = prepare(settings, Store(tmp_path / "1"), 0)
    for file in shard_cache.rglob("*.tar"):
        file.unlink()  # by another process that needed the room
    order = [int(image) for batch in epoch(data) for image in batch["index"]]
    assert len(order) == len(set(order)) >= 18
    bucket.write("train-000.tar", (bucket.read("train-001.tar") or b""))
    for file in shard_cache.rglob("*.tar"):
        file.unlink()
    with pytest.raises(CompressError, match=r"train-000\.tar has changed since it was listed"):
        list(epoch(data, 1))


def test_shards_are_fetched_ahead_in_the_background(
    photos: Path, bucket: SharedFolder, tmp_path: Path, shard_cache: Path
) -> None:
    local = write_tars(rows_of(photos), tmp_path / "tars")
    put(Path(local.path), bucket)
    settings = lazily(local, bucket.url, 20)
    files = lazy_shards.lazy_files(list_remote(bucket.url, SHARDS), settings.cache_gb)
    assert not shards_of(shard_cache)
    lazy_shards.prefetch(files[:4])
    for thread in threading.enumerate():
        if thread.daemon and "_work" in thread.name:
            thread.join(20)
    assert shards_of(shard_cache) == sorted(file.name for file in files[:4])


def test_too_small_a_cache_or_disk_is_refused(
    photos: Path, bucket: SharedFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = write_tars(rows_of(photos), tmp_path / "tars")
    put(Path(local.path), bucket)
    with pytest.raises(UsageError, match=r"data\.cache_gb: .* is too little: 2 shards of memory://bucket/birds take"):
        prepare(lazily(local, bucket.url, 1.5), Store(tmp_path / "1"), 0)
    monkeypatch.setattr(lazy_shards, "free_bytes", lambda folder: 1000)
    with pytest.raises(CompressError, match=r"do not fit on the disk, .*; lower `cache_gb`, or set XDG_CACHE_HOME"):
        prepare(lazily(local, bucket.url, 4), Store(tmp_path / "1"), 0)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("source: webdataset, path: a.tar, order: shards", "`order: shards` needs `images: files` and a source with"),
        ("source: image-folder, path: a, images: files, order: shards", "`order: shards` needs `images: files` and a"),
        ("source: webdataset, path: a.tar, cache_gb: 5", "`cache_gb` is for shards at a URL"),
        ("source: webdataset, path: 's3://b/a', cache_gb: 5, images: files", "`cache_gb` needs `order: shards`"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(lines: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        parse_recipe(f"name: it\ndata: {{{lines}}}\nstages: [{{id: a, kind: train}}]\n")
