"""What preparing data takes is said before it is prepared."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from data.packing import WRITERS, Writer, packer, rows_of

from compress.data import expected
from compress.data.prepared import SPLITS, planned_data, prepare
from compress.data.sources import data_key
from compress.recipe.data import FileData
from compress.store.store import Store
from compress.utils.errors import CompressError

Disk = namedtuple("Disk", "total used free")


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr("compress.data.prepared.say", said.append)
    return said


def with_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(free, 0, free))


@pytest.mark.parametrize("source", WRITERS)
@pytest.mark.parametrize("more", [{}, {"labeled": 5}, {"test": 0.3}, {"test": 0.3, "labeled": 4}])
def test_a_plan_knows_the_splits_and_writes_nothing(
    photos: Path, store: Store, source: str, more: dict[str, Any], tmp_path: Path, lines: list[str]
) -> None:
    if "test" in more:
        shutil.rmtree(photos / "test")
    write: Writer = packer(source)
    settings = write(rows_of(photos, without_test="test" in more), tmp_path / "packed").model_copy(update=more)
    planned = planned_data(settings, store, 0, data_key(settings, 0))
    assert not list(store.root.glob("*")), "nothing was written"
    assert len(lines) == 1 and "images, about" in lines[0] and "set `images: files`" not in lines[0]
    data = prepare(settings, store, 0)
    for split in SPLITS:
        assert getattr(planned, split).images.shape == getattr(data, split).images.shape, split
    assert (planned.name, planned.classes, planned.key) == (data.name, data.classes, data.key)
    assert planned_data(settings, store, 0, data.key).train.labels.tolist() == data.train.labels.tolist()
    assert len(lines) == 1, "what is prepared takes nothing"


def test_what_does_not_fit_is_refused_before_it_is_decoded(
    photos: Path, store: Store, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = FileData(source="image-folder", path=str(photos), resolution=16)
    needed = 30 * 3 * 16 * 16 * expected.COPIES
    with_free(monkeypatch, needed - 1)
    planned_data(settings, store, 0, data_key(settings, 0))
    assert "at 16 x 16 pixels they take 0.00 GB in" in lines[0] and "; set `images: files` in data" in lines[0]
    with pytest.raises(
        CompressError, match=r"^data: 30 images do not fit: .* free; set `images: files` in data, which"
    ):
        prepare(settings, store, 0)
    assert [path.name for path in store.root.glob("*")] == ["fingerprints.json"]
    prepare(settings.model_copy(update={"images": "files"}), store, 0)
    planned_data(settings.model_copy(update={"images": "files"}), Store(store.root / "other"), 0, "0")
    assert "30 images stay in their files; decoding each once takes about" in lines[1]
    with_free(monkeypatch, needed)
    prepare(settings, store, 0)
    with_free(monkeypatch, 0)
    prepare(settings, store, 0)  # from the store
