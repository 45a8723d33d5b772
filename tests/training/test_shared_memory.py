"""Batches of worker processes fit into shared memory, of which a container may have as little as 64 MB."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from support import photographs
from training.test_fit import CPU, fit_module, plain

from compress.data.folder import FolderData
from compress.data.prepared import prepare
from compress.store.store import Store
from compress.training import shared_memory
from compress.training.dataset import ImageDataset, eval_loader
from compress.training.fit import fit
from compress.training.shared_memory import workers_that_fit
from compress.utils.errors import CompressError

IMAGE = 3 * 224 * 224


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """Shared memory whose free space, in MB, a test sets as `free.mb`; `free.said` has what was said of it."""
    shared = SimpleNamespace(mb=64, said=[])
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    monkeypatch.setattr(shared_memory, "_told", False)
    monkeypatch.setattr(shared_memory, "say", shared.said.append)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=shared.mb * 10**6))
    return shared


@pytest.mark.parametrize(
    ("mb", "batch", "images", "world", "workers"),
    [
        (64, 128, 50_000, 1, 0),  # 19 MB per batch, as Docker starts containers
        (64, 32, 50_000, 1, 4),
        (64, 32, 50_000, 4, 0),
        (64, 128, 200, 1, 8),  # all images at once
        (1000, 128, 50_000, 1, 8),
    ],
)
def test_as_many_workers_as_have_space(
    free: SimpleNamespace, mb: int, batch: int, images: int, world: int, workers: int
) -> None:
    free.mb = mb
    assert workers_that_fit(8, images, batch, IMAGE, world) == workers
    assert workers_that_fit(8, images, batch, IMAGE, world) == workers
    assert len(free.said) == (workers < 8), "said once"


def test_other_systems_have_no_limit(free: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "FOLDER", Path("nowhere"))
    assert workers_that_fit(8, 50_000, 1024, IMAGE, 1) == 8


def test_a_loader_has_no_workers_without_shared_memory(free: SimpleNamespace, tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        photographs(tmp_path / "images" / part, 4, seed=len(part))
    section = FolderData(source="image-folder", path=str(tmp_path / "images"), resolution=32, images="files", workers=2)
    images = ImageDataset([prepare(section, Store(tmp_path / "store"), 0).train])
    assert eval_loader(images, 2, 1, 0).num_workers == 2
    free.mb = 0
    loader = eval_loader(images, 2, 1, 0)
    assert loader.num_workers == 0 and len(list(loader)) == 6
    (line,) = free.said
    assert "no worker processes decode batches, as" in line and "`--shm-size" in line


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        (
            "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are "
            "out of shared memory. Please try to raise your shared memory limit.",
            r"^the batches of worker processes do not fit into \S+; start .* `--shm-size`, or set `data.workers` to f",
        ),
        ("unable to allocate shared memory(shm) for file </torch_7>: No space left on device (28)", r"do not fit into"),
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", r"Killed; it may lack memory: set `data"),
    ],
)
def test_a_worker_that_is_killed_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, advice: str
) -> None:
    def killed(*_: object) -> None:
        raise RuntimeError(text)

    module = fit_module(plain(1))
    monkeypatch.setattr(module, "training_step", killed)
    with pytest.raises(CompressError, match=advice) as error:
        fit(module, CPU, tmp_path, "tiny")
    assert "\n" not in str(error.value)
