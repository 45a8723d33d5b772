"""Fitting does what a plain training loop does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import timm
import torch

from compress.data.arrays import Split
from compress.data.preprocess import Preprocess
from compress.recipe.schema import Distillation, Fit, Trainer, Views
from compress.training.fit import fit
from compress.training.module import Answers, Fitting

PREPROCESS = Preprocess(resolution=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), interpolation="bicubic")


def colours(count: int, seed: int) -> Split:
    """Reddish and bluish noise: two classes that any network can learn."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = rng.integers(0, 128, (count, 3, 32, 32))
    images[np.arange(count), labels * 2] += 100
    return Split(images.astype(np.uint8), labels)


def fitting(settings: Fit, answers: Answers | None = None) -> Fitting:
    torch.manual_seed(0)
    network = timm.create_model("resnet10t", num_classes=2).eval()
    splits = [colours(64, 0)]
    return Fitting(network, PREPROCESS, splits, colours(32, 1), Views(), settings, answers, seed=0, image_macs=1000)


def plain(epochs: int) -> Fit:
    return Fit(epochs=epochs, batch=16, optimizer="adamw", lr=0.002)


def test_batch_normalisation_learns_the_statistics_of_the_images(tmp_path: Path) -> None:
    module = fitting(plain(2))
    fitted = fit(module, Trainer(accelerator="cpu"), tmp_path, "tiny")
    statistics = [b for name, b in module.network.named_buffers() if name.endswith("num_batches_tracked")]
    assert statistics and all(int(count) == fitted.steps == 8 for count in statistics)
    assert not module.network.training


def test_what_can_be_learnt_is_learnt(tmp_path: Path) -> None:
    fitted = fit(fitting(plain(6)), Trainer(accelerator="cpu"), tmp_path, "tiny")
    assert fitted.curve[-1]["top1"] > 0.9


def test_features_turn_towards_the_embeddings_and_the_projection_stays_behind(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(2, 6))
    file = tmp_path / "embeddings.npy"
    np.save(file, directions[np.arange(64) % 2].astype(np.float16))
    head = torch.nn.Linear(6, 2)
    settings = Distillation(**plain(6).model_dump(), views=1, kd_weight=0, ce_weight=0.01, embedding_weight=1)
    module = fitting(settings, Answers([file], head))
    names = set(module.network.state_dict())
    assert module.step_macs == 16 * (1000 + 3 * 512 * 6)
    fit(module, Trainer(accelerator="cpu"), tmp_path / "work", "tiny")
    assert module.last_loss < 0.1  # 1 - cosine, of embeddings that the two colours tell apart
    assert set(module.network.state_dict()) == names
    assert not any(m._forward_pre_hooks for m in module.network.modules())
