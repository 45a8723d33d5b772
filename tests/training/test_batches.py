"""Steps and validation on several devices."""

from __future__ import annotations

from itertools import chain
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.recipe.data import Views
from compress.recipe.fit import Fit
from compress.training.batches import device_batch, epoch_images, rank_images, step_images
from compress.training.dataset import ImageDataset, eval_loader, train_loader
from compress.training.module import FitModule


def images(count: int) -> Split:
    return Split(np.zeros((count, 3, 8, 8), np.uint8), np.zeros(count, np.int64))


def fit_module(world: int, rank: int, *, batch: int = 16, validation: int = 3) -> FitModule:
    """Return a module as it is on one of several devices."""
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2))
    preprocess, settings = Preprocess(8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)), Fit(epochs=1, batch=batch, lr=0.1)
    module = FitModule(
        network, preprocess, [images(64)], images(validation), Views(), settings, None, seed=0, image_macs=10
    )
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    about: Any = {"world_size": world, "global_rank": rank, "current_epoch": 0, "num_training_batches": 1}
    module._trainer = SimpleNamespace(**about, strategy=strategy)  # type: ignore[assignment]
    return module


@pytest.mark.parametrize(
    ("count", "batch", "world"), [(64, 16, 1), (9, 16, 1), (64, 15, 2), (64, 2, 4), (10, 16, 4), (17, 16, 4)]
)
def test_a_step_has_the_images_of_all_devices(count: int, batch: int, world: int) -> None:
    dataset, each = ImageDataset([images(count)]), device_batch(batch, world)
    first = [next(iter(train_loader(dataset, each, world, rank, 0))) for rank in range(world)]
    assert sum(len(batch["index"]) for batch in first) == step_images(count, batch, world)
    epoch = [len(found["index"]) for rank in range(world) for found in train_loader(dataset, each, world, rank, 0)]
    assert sum(epoch) == epoch_images(count, batch, world)


def test_images_and_macs_of_a_step_follow_the_number_of_devices() -> None:
    module = fit_module(4, 0, batch=18)
    module.setup("fit")
    assert (module.step_images, module.step_macs) == (16, 160)


@pytest.mark.parametrize(("count", "world"), [(1, 4), (7, 2), (8, 2), (10, 4)])
def test_validation_images_are_those_that_are_not_repeated(count: int, world: int) -> None:
    dataset, seen = ImageDataset([images(count)]), []
    for rank in range(world):
        dealt = list(chain(*(batch["index"].tolist() for batch in eval_loader(dataset, 2, world, rank))))
        seen += dealt[: rank_images(count, world, rank)]
    assert sorted(seen) == list(range(count))


def test_repeated_validation_images_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    for rank, correct in ((1, [0.0, 1.0]), (0, [1.0, 0.0])):  # of three images; the second of rank 1 is a repeated one
        module = fit_module(2, rank)
        module._losses, module._finite = [torch.tensor(0.5)], [torch.tensor(True)]
        module._correct = [torch.tensor(correct)]

        def gather(own: torch.Tensor) -> torch.Tensor:
            told.append(own)
            return torch.stack(told)

        monkeypatch.setattr(module, "all_gather", gather)
        module.on_validation_epoch_end()
    assert module.state.curve == [{"macs": 160.0, "top1": 0.333333}]
