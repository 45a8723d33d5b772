"""Cached embeddings are those of the views that the student sees, and verification finds others."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pretended_cuda import pretended_cuda
from torch import nn

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.data.views import render
from compress.measurement.device import choose_devices
from compress.models.fingerprint import shards
from compress.models.teachers import LoadedTeacher
from compress.recipe.data import Views
from compress.recipe.schema import Trainer
from compress.store.store import Store
from compress.training import embedding_devices
from compress.training import teacher_cache as embeddings
from compress.training.embedding_devices import Progress
from compress.training.embedding_shards import EmbeddedView
from compress.training.teacher_cache import Embedder, embed_rows, embed_views, shards_of, verify
from compress.utils.errors import CompressError

PREPROCESS = Preprocess(resolution=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
VIEWS = Views(shift=0.125, flip=True)


def teacher() -> LoadedTeacher:
    torch.manual_seed(0)
    tower = nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 6))
    return LoadedTeacher(tower.eval(), nn.Identity(), PREPROCESS)


def splits() -> list[Split]:
    rng = np.random.default_rng(0)
    return [Split(rng.integers(0, 256, (n, 3, 16, 16)).astype(np.uint8), None) for n in (30, 21)]


def embedder(root: Path, load: Callable[[], LoadedTeacher] = teacher, **changes: Any) -> Embedder:
    root.mkdir(exist_ok=True)
    settings: dict[str, Any] = {"views": VIEWS, "seed": 3, "batch": 8, "identity": {"weights": "w", "data": "d"}}
    return Embedder(Store(root), load, splits(), **{**settings, **changes})


def test_a_row_is_the_embedding_of_the_pixels_that_the_student_sees(tmp_path: Path) -> None:
    files = embed_views([embedder(tmp_path)], 2)
    images = torch.from_numpy(np.concatenate([split.images for split in splits()]))
    for view, file in enumerate(files):
        stored = file.all()
        assert stored.dtype == np.float16 and stored.shape == (51, 6)
        pixels = render(images, torch.arange(51), view, 3, VIEWS)
        with torch.no_grad():
            expected = teacher().tower(PREPROCESS(pixels))
        assert torch.allclose(torch.from_numpy(np.array(stored)).float(), expected, atol=5e-3)


def test_more_views_leave_the_present_ones_alone(tmp_path: Path) -> None:
    first = embed_views([embedder(tmp_path)], 2)
    times = [view.files[0].stat().st_mtime_ns for view in first]
    loads = []
    again = embed_views([embedder(tmp_path, lambda: loads.append(1) or teacher())], 4)  # type: ignore[func-returns-value]
    assert again[:2] == first and [view.files[0].stat().st_mtime_ns for view in again[:2]] == times
    assert loads == [1]
    embed_views([embedder(tmp_path, lambda: pytest.fail("nothing is missing"))], 4)


@pytest.mark.parametrize(
    "change", [{"seed": 4}, {"views": Views(shift=0)}, {"identity": {"weights": "other", "data": "d"}}]
)
def test_the_key_changes_with_seed_views_and_identity(tmp_path: Path, change: dict[str, Any]) -> None:
    assert not set(embed_views([embedder(tmp_path)], 1)) & set(embed_views([embedder(tmp_path, **change)], 1))


def test_a_killed_view_resumes_after_its_last_complete_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "BLOCK", 16)
    whole = embed_views([embedder(tmp_path / "undisturbed")], 1)[0].all()
    embedded: list[int] = []
    kill_at = 36

    def counting(source: Embedder, index: np.ndarray, view: int, batch: int) -> np.ndarray:
        if len(embedded) == 0 and index[0] >= kill_at:
            embedded.append(-1)
            raise KeyboardInterrupt
        if embedded:
            embedded.extend(index.tolist())
        return embed_rows(source, index, view, batch)

    monkeypatch.setattr(embeddings, "embed_rows", counting)
    with pytest.raises(KeyboardInterrupt):
        embed_views([embedder(tmp_path / "killed")], 1)
    (file,) = embed_views([embedder(tmp_path / "killed")], 1)
    assert embedded[1:] == list(range(32, 51))  # two blocks of 16 were complete
    assert np.array_equal(file.all(), whole)
    assert {path.name for path in file.files[0].parent.iterdir()} == {"embeddings.npy", "entry.json"}


def test_verification_passes_for_correct_embeddings(tmp_path: Path) -> None:
    source = embedder(tmp_path)
    verify(source, embed_views([source], 2), 102)


@pytest.mark.parametrize("lie", ["mirrored", "another view", "another image"])
def test_verification_catches_an_embedding_of_another_image(tmp_path: Path, lie: str) -> None:
    """The classic mistake: the teacher has seen the plain image, and the student sees it mirrored."""
    source = embedder(tmp_path, views=Views(shift=0, flip=False))
    (file,) = embed_views([source], 1)
    other = embedder(tmp_path, views=Views(shift=0, flip=True))
    lies = {
        "mirrored": (other, file),
        "another view": (embedder(tmp_path), file),
        "another image": (source, EmbeddedView((tmp_path / "rolled.npy",))),
    }
    np.save(tmp_path / "rolled.npy", np.roll(file.all(), 1, axis=0))
    source, stored = lies[lie]
    with pytest.raises(
        CompressError,
        match=r"is not the teacher's, their cosine is .*; the entry was deleted, run again to make it anew",
    ):
        verify(source, [stored], 51)
    key = stored.files[0].parent.name
    assert not source.store.exists(key)


def test_views_and_their_verification_share_a_batch_size(tmp_path: Path) -> None:
    """On a GPU whose memory has room for three images, memory runs out once and not once per view."""
    refused: list[int] = []

    def load() -> LoadedTeacher:
        loaded = teacher()

        def limited(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
            if len(inputs[0]) > 3:
                refused.append(len(inputs[0]))
                raise torch.OutOfMemoryError("CUDA out of memory")

        loaded.tower.register_forward_pre_hook(limited)
        return loaded

    with pretended_cuda() as cuda:
        embedding = embedder(tmp_path, load, device=cuda)
        verify(embedding, embed_views([embedding], 2), 5)
    assert refused == [8, 4] and embedding.size.images == 2


def test_shards_are_units_and_give_the_same_rows_however_they_are_made(tmp_path: Path) -> None:
    assert [(part.start, part.stop) for part in shards(51, 16)] == [(0, 16), (16, 32), (32, 48), (48, 51)]
    (whole,) = embed_views([embedder(tmp_path / "whole")], 1)
    other = embedder(tmp_path / "shards", shard=16)
    for (part,) in shards_of([other], 1)[0][::-2]:  # another process has made some
        other.store.get(part.key, part.what, lambda folder, part=part: part.make(folder, Progress()))  # type: ignore[misc]
    (view,) = embed_views([embedder(tmp_path / "shards", shard=16)], 1)
    assert len(view.files) == 4 and len(view) == 51 and view.width == 6
    assert np.allclose(view.all(), whole.all(), atol=2e-3)
    index = np.array([50, 0, 17, 17, 31, 48, 3])
    assert np.array_equal(view.rows(index), view.all()[index]) and view.file_of(31) == view.files[1]
    keys = [{part.key for (part,) in shards_of([each], 1)[0]} for each in (other, embedder(tmp_path / "whole"))]
    assert not keys[0] & keys[1]
    verify(other, [view], 51)


def on_devices(root: Path, count: int, **changes: Any) -> list[Embedder]:
    """Return embedders of the same images for several devices, each with a teacher of its own."""
    first = embedder(root, shard=8, **changes)
    return [replace(first, device=torch.device("cpu")) for _ in range(count)]


def test_all_devices_embed_and_give_the_bits_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both, made = threading.Barrier(2, timeout=30), dict[int, set[int]]()

    def together(source: Embedder, index: np.ndarray, view: int, batch: int) -> np.ndarray:
        own = made.setdefault(threading.get_ident(), set())
        if not own:
            both.wait()  # neither device has made all before the other began
        own.add(id(source.tower.network))
        return embed_rows(source, index, view, batch)

    one = embed_views(on_devices(tmp_path / "1", 1), 2)
    monkeypatch.setattr(embeddings, "embed_rows", together)
    two = embed_views(on_devices(tmp_path / "2", 2), 2)
    assert [view.all().tobytes() for view in one] == [view.all().tobytes() for view in two]
    assert [len(networks) for networks in made.values()] == [1, 1] and len(set.union(*made.values())) == 2
    embed_views(on_devices(tmp_path / "2", 2, load=None), 2)  # nothing is missing, and no teacher is loaded


@pytest.mark.parametrize("devices", [1, 2])
def test_no_teacher_outlives_the_embedders(devices: int, tmp_path: Path) -> None:
    loaded: list[weakref.ref[nn.Module]] = []

    def load() -> LoadedTeacher:
        found = teacher()
        loaded.append(weakref.ref(found.tower))
        return found

    views = embed_views(on_devices(tmp_path, devices, load=load), 2)
    gc.collect()
    assert loaded and len(views) == 2 and not any(network() for network in loaded)


def test_a_device_that_fails_stops_the_others_and_what_they_made_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "BLOCK", 4)
    said: list[str] = []
    monkeypatch.setattr(embedding_devices, "say", said.append)
    began, failed, calls = threading.Event(), threading.Event(), list[int]()

    def fails(source: Embedder, index: np.ndarray, view: int, batch: int) -> np.ndarray:
        calls.append(int(index[0]))
        if index[0] == 8:  # the second shard
            began.wait(30)
            failed.set()
            raise RuntimeError("device lost")
        began.set()
        failed.wait(30)
        time.sleep(0.2)
        return embed_rows(source, index, view, batch)

    monkeypatch.setattr(embeddings, "embed_rows", fails)
    with pytest.raises(RuntimeError, match="device lost"):
        embed_views(on_devices(tmp_path, 2), 1)
    assert said == [
        "  the teacher's embeddings of view 1, images 9 to 16 failed on cpu: device lost; the other devices stop"
    ]
    assert sorted(calls) == [0, 8], "the other device must stop within its first shard"
    monkeypatch.setattr(embeddings, "embed_rows", embed_rows)
    (view,) = embed_views(on_devices(tmp_path, 2), 1)
    (whole,) = embed_views(on_devices(tmp_path / "whole", 1), 1)
    assert view.all().tobytes() == whole.all().tobytes()


def test_an_interruption_stops_all_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []

    def slow(source: Embedder, index: np.ndarray, view: int, batch: int) -> np.ndarray:
        time.sleep(0.05)
        return embed_rows(source, index, view, batch)

    def interrupt(thread: threading.Thread, timeout: float | None = None) -> None:
        if timeout == embedding_devices.JOIN_S:
            raise KeyboardInterrupt
        join(thread, timeout)
        ended.append(not thread.is_alive())

    monkeypatch.setattr(embeddings, "embed_rows", slow)
    join = threading.Thread.join
    monkeypatch.setattr(threading.Thread, "join", interrupt)
    with pytest.raises(KeyboardInterrupt):
        embed_views(on_devices(tmp_path, 2), 4)
    assert ended[:2] == [True, True]


def test_devices_of_a_run_are_those_that_its_trainer_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.measurement.device._count", lambda kind: 3 if kind == "cuda" else 0)
    for devices, numbers in ((1, [0]), (2, [0, 1]), ([2, 0], [2, 0]), ("auto", [0, 1, 2]), (-1, [0, 1, 2])):
        chosen = choose_devices(Trainer(accelerator="cuda", devices=devices))
        assert [device.index for device in chosen] == numbers
    assert choose_devices(Trainer(accelerator="cpu", devices=2)) == [torch.device("cpu")]
