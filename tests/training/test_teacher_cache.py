"""Cached embeddings are those of the views that the student sees, and verification finds others."""

from __future__ import annotations

from collections.abc import Callable
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
from compress.models.fingerprint import shards
from compress.models.teachers import LoadedTeacher
from compress.recipe.data import Views
from compress.store.store import Store
from compress.training import teacher_cache as embeddings
from compress.training.embedding_shards import EmbeddedView
from compress.training.teacher_cache import Embedder, embed_rows, embed_views, parts, verify
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
    files = embed_views(embedder(tmp_path), 2)
    images = torch.from_numpy(np.concatenate([split.images for split in splits()]))
    for view, file in enumerate(files):
        stored = file.all()
        assert stored.dtype == np.float16 and stored.shape == (51, 6)
        pixels = render(images, torch.arange(51), view, 3, VIEWS)
        with torch.no_grad():
            expected = teacher().tower(PREPROCESS(pixels))
        assert torch.allclose(torch.from_numpy(np.array(stored)).float(), expected, atol=5e-3)


def test_more_views_leave_the_present_ones_alone(tmp_path: Path) -> None:
    first = embed_views(embedder(tmp_path), 2)
    times = [view.files[0].stat().st_mtime_ns for view in first]
    loads = []
    again = embed_views(embedder(tmp_path, lambda: loads.append(1) or teacher()), 4)  # type: ignore[func-returns-value]
    assert again[:2] == first and [view.files[0].stat().st_mtime_ns for view in again[:2]] == times
    assert loads == [1]
    embed_views(embedder(tmp_path, lambda: pytest.fail("nothing is missing")), 4)


@pytest.mark.parametrize(
    "change", [{"seed": 4}, {"views": Views(shift=0)}, {"identity": {"weights": "other", "data": "d"}}]
)
def test_the_key_changes_with_seed_views_and_identity(tmp_path: Path, change: dict[str, Any]) -> None:
    assert not set(embed_views(embedder(tmp_path), 1)) & set(embed_views(embedder(tmp_path, **change), 1))


def test_a_killed_view_resumes_after_its_last_complete_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "BLOCK", 16)
    whole = embed_views(embedder(tmp_path / "undisturbed"), 1)[0].all()
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
        embed_views(embedder(tmp_path / "killed"), 1)
    (file,) = embed_views(embedder(tmp_path / "killed"), 1)
    assert embedded[1:] == list(range(32, 51))  # two blocks of 16 were complete
    assert np.array_equal(file.all(), whole)
    assert {path.name for path in file.files[0].parent.iterdir()} == {"embeddings.npy", "entry.json"}


def test_verification_passes_for_correct_embeddings(tmp_path: Path) -> None:
    source = embedder(tmp_path)
    verify(source, embed_views(source, 2), 102)


@pytest.mark.parametrize("lie", ["mirrored", "another view", "another image"])
def test_verification_catches_an_embedding_of_another_image(tmp_path: Path, lie: str) -> None:
    """The classic mistake: the teacher has seen the plain image, and the student sees it mirrored."""
    source = embedder(tmp_path, views=Views(shift=0, flip=False))
    (file,) = embed_views(source, 1)
    other = embedder(tmp_path, views=Views(shift=0, flip=True))
    lies = {
        "mirrored": (other, file),
        "another view": (embedder(tmp_path), file),
        "another image": (source, EmbeddedView((tmp_path / "rolled.npy",))),
    }
    np.save(tmp_path / "rolled.npy", np.roll(file.all(), 1, axis=0))
    source, stored = lies[lie]
    with pytest.raises(
        CompressError, match=r"is not the teacher's, their cosine is .*; delete this folder and run again"
    ):
        verify(source, [stored], 51)


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
        verify(embedding, embed_views(embedding, 2), 5)
    assert refused == [8, 4] and embedding.size.images == 2


def test_shards_are_units_and_give_the_same_rows_however_they_are_made(tmp_path: Path) -> None:
    assert [(part.start, part.stop) for part in shards(51, 16)] == [(0, 16), (16, 32), (32, 48), (48, 51)]
    (whole,) = embed_views(embedder(tmp_path / "whole"), 1)
    other = embedder(tmp_path / "shards", shard=16)
    for part in parts(other, 1)[0][::-2]:  # another process has made some
        other.store.get(part.key, part.what, part.make)
    (view,) = embed_views(embedder(tmp_path / "shards", shard=16), 1)
    assert len(view.files) == 4 and len(view) == 51 and view.width == 6
    assert np.allclose(view.all(), whole.all(), atol=2e-3)
    index = np.array([50, 0, 17, 17, 31, 48, 3])
    assert np.array_equal(view.rows(index), view.all()[index]) and view.file_of(31) == view.files[1]
    assert not {part.key for part in parts(other, 1)[0]} & {
        part.key for part in parts(embedder(tmp_path / "whole"), 1)[0]
    }
    verify(other, [view], 51)
