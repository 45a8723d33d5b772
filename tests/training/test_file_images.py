"""A fit on images that worker processes decode has the bits of one on decoded images."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor

from compress.data.folder import FolderData
from compress.data.prepared import prepare
from compress.data.preprocess import Preprocess
from compress.recipe.data import Views
from compress.recipe.fit import Fit
from compress.recipe.schema import Trainer
from compress.store.store import Store
from compress.training.fit import fit
from compress.training.module import FitModule
from compress.utils.errors import CompressError

CPU = Trainer(accelerator="cpu")
PREPROCESS = Preprocess(resolution=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 4), ("test", 2)):
        for number, name in enumerate(("red", "blue")):
            (root / split / name).mkdir(parents=True)
            for row in range(count):
                pixels = rng.integers(0, 128, (90, 120, 3))
                pixels[..., number * 2] += 100
                Image.fromarray(pixels.astype(np.uint8)).save(root / split / name / f"{row:02}.jpg")
    return root


def module_of(photos: Path, tmp_path: Path, epochs: int = 1, **settings: Any) -> FitModule:
    section = FolderData(source="image-folder", path=str(photos), resolution=32, **settings)
    data = prepare(section, Store(tmp_path / "store"), 0)
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=2).eval()
    return FitModule(
        network,
        PREPROCESS,
        [data.train],
        data.validation,
        Views(),
        Fit(epochs=epochs, batch=16, optimizer="adamw", lr=0.002),
        None,
        seed=0,
        image_macs=1,
    )


def weights(module: FitModule, work: Path) -> dict[str, Tensor]:
    fit(module, CPU, work, "tiny")
    assert not multiprocessing.active_children(), "workers end with the fit"
    return {name: value.clone() for name, value in module.network.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_bits_do_not_depend_on_workers_nor_on_a_kill(photos: Path, tmp_path: Path, monkeypatch: Any) -> None:
    expected = weights(module_of(photos, tmp_path, 2), tmp_path / "pixels")
    for workers in (0, 2):
        assert same(
            weights(module_of(photos, tmp_path, 2, images="files", workers=workers), tmp_path / f"{workers}"), expected
        )
    original, steps = FitModule.training_step, 0

    def dies(self: FitModule, *args: Any) -> Tensor:
        nonlocal steps
        steps += 1
        if steps == 5:  # of 3 + 3
            raise KeyError("killed")
        return original(self, *args)

    monkeypatch.setattr(FitModule, "training_step", dies)
    with pytest.raises(KeyError):
        fit(module_of(photos, tmp_path, 2, images="files", workers=2), CPU, tmp_path / "killed", "tiny")
    resumed = module_of(photos, tmp_path, 2, images="files", workers=1)
    assert same(weights(resumed, tmp_path / "killed"), expected)


def test_a_broken_file_in_a_worker_is_one_line(photos: Path, tmp_path: Path) -> None:
    module = module_of(photos, tmp_path, images="files", workers=1)
    file = photos / "train" / "red" / "07.jpg"
    whole = file.read_bytes()
    try:
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(CompressError, match=r"^[^\n]*photos0: train/red/07\.jpg is not a readable image \([^\n]*$"):
            fit(module, CPU, tmp_path / "work", "tiny")
    finally:
        file.write_bytes(whole)
