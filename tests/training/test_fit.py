"""Fitting does what a plain training loop does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import timm
import torch

from compress.data.arrays import Split
from compress.data.preprocess import Preprocess
from compress.recipe.schema import Fit, Trainer, Views
from compress.training.fit import fit
from compress.training.module import Fitting

PREPROCESS = Preprocess(resolution=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), interpolation="bicubic")


def colours(count: int, seed: int) -> Split:
    """Reddish and bluish noise: two classes that any network can learn."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = rng.integers(0, 128, (count, 3, 32, 32))
    images[np.arange(count), labels * 2] += 100
    return Split(images.astype(np.uint8), labels)


def fitting(epochs: int) -> Fitting:
    torch.manual_seed(0)
    network = timm.create_model("resnet10t", num_classes=2).eval()
    settings = Fit(epochs=epochs, batch=16, optimizer="adamw", lr=0.002)
    splits = [colours(64, 0)]
    return Fitting(network, PREPROCESS, splits, colours(32, 1), Views(), settings, None, seed=0, step_macs=1)


def test_batch_normalisation_learns_the_statistics_of_the_images(tmp_path: Path) -> None:
    module = fitting(2)
    fitted = fit(module, Trainer(accelerator="cpu"), tmp_path, "tiny")
    statistics = [b for name, b in module.network.named_buffers() if name.endswith("num_batches_tracked")]
    assert statistics and all(int(count) == fitted.steps == 8 for count in statistics)
    assert not module.network.training


def test_what_can_be_learnt_is_learnt(tmp_path: Path) -> None:
    fitted = fit(fitting(6), Trainer(accelerator="cpu"), tmp_path, "tiny")
    assert fitted.curve[-1]["top1"] > 0.9
