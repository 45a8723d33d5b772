from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from object_stores import in_memory
from PIL import Image

from compress.data import remote_shards
from compress.store import shared
from compress.store.shared import SharedFolder
from compress.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def shard_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of downloaded shards; calls are repeated without pauses."""
    monkeypatch.setattr(remote_shards, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(shared, "PAUSE_S", 0.001)
    remote_shards.list_remote.cache_clear()
    yield tmp_path / "cache" / "data"
    remote_shards.list_remote.cache_clear()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> SharedFolder:
    """An empty folder of an object store in memory."""
    return SharedFolder(f"{in_memory(monkeypatch)}/birds")


@pytest.fixture
def any_bucket(bucket_url: str) -> SharedFolder:
    """An empty folder on each kind of object store."""
    return SharedFolder(f"{bucket_url}/birds")


@pytest.fixture
def paint() -> Callable[..., Path]:
    """Write an image of noise, the same for the same seed."""

    def write(path: Path, seed: int = 0, size: tuple[int, int] = (20, 16)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture
def photos(tmp_path: Path, paint: Callable[..., Path]) -> Path:
    """A folder with 10 train and 3 test images of `cat` and `dog`, and 4 unlabelled ones."""
    root = tmp_path / "photos"
    seed = 0
    for split, count in (("train", 10), ("test", 3)):
        for name in ("cat", "dog"):
            for number in range(count):
                seed += 1
                paint(root / split / name / f"{number:02}.png", seed)
    for number in range(4):
        paint(root / "unlabeled" / f"sub{number % 2}" / f"{number}.png", 100 + number)
    return root
