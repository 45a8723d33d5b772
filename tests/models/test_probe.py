from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from compress.models import probe
from compress.models.probe import fit_probe

Sides = tuple[torch.Tensor, torch.Tensor]


def blobs(count: int, spread: float, seed: int) -> Sides:
    """Points around three places on a circle."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    angles = labels * 2 * torch.pi / 3
    centres = torch.stack([angles.cos(), angles.sin()], 1)
    return centres + spread * torch.randn(count, 2, generator=draw), labels


def noise(count: int, seed: int) -> torch.Tensor:
    return 0.3 * torch.randn(count, 60, generator=torch.Generator().manual_seed(seed))


def test_the_probe_minimises_its_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "STRENGTHS", (0.01,))
    train = blobs(60, 0.5, 0)
    head = fit_probe(train, blobs(30, 0.5, 1), 3).head
    weight, bias = (p.detach().double().requires_grad_() for p in (head.weight, head.bias))
    loss = F.cross_entropy(train[0].double() @ weight.T + bias, train[1]) + 0.005 * weight.square().sum()
    for gradient in torch.autograd.grad(loss, (weight, bias)):
        assert gradient.abs().max() < 1e-6  # float32 of the layer


def test_the_weight_decay_is_selected_on_validation() -> None:
    # A quarter of the train labels is wrong: without weight decay the probe fits them by the noise.
    embeddings, labels = blobs(90, 0.1, 0)
    wrong = torch.where(torch.arange(90) % 4 == 0, (labels + 1) % 3, labels)
    train = (torch.cat([embeddings, noise(90, 2)], 1), wrong)
    clean, clean_labels = blobs(300, 0.1, 3)
    chosen = fit_probe(train, (torch.cat([clean, noise(300, 4)], 1), clean_labels), 3)
    loose = fit_probe(train, train, 3)
    assert chosen.strength > loose.strength
    held_out = loose.head(torch.cat([clean, noise(300, 4)], 1)).argmax(1) == clean_labels
    assert chosen.top1 > 0.85 > 0.8 > held_out.float().mean()


def test_fp16_embeddings_and_a_class_without_train_images_are_fitted() -> None:
    embeddings, labels = blobs(30, 0.1, 0)
    found = fit_probe((embeddings.half(), labels), (embeddings.half(), labels), 4)
    assert found.top1 == 1.0 and found.head.weight.shape == (4, 2) and found.head.weight.dtype == torch.float32
