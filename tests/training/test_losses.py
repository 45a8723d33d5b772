from __future__ import annotations

import math

import torch
from torch.autograd import gradcheck

from compress.training.losses import distillation_loss, embedding_loss, labelled_cross_entropy


def test_distillation_by_hand() -> None:
    # Two classes: softmax([a, 0] / T) is a logistic, so the divergence can be worked out with logarithms alone.
    student, teacher, temperature = [[1.0, 0.0], [0.0, 3.0]], [[2.0, 0.0], [0.0, 0.0]], 2.0

    def logistic(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    expected = 0.0
    for s, t in zip(student, teacher, strict=True):
        p, q = logistic((t[0] - t[1]) / temperature), logistic((s[0] - s[1]) / temperature)
        expected += p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    expected *= temperature**2 / 2
    assert math.isclose(
        distillation_loss(torch.tensor(student), torch.tensor(teacher), temperature).item(), expected, rel_tol=1e-5
    )


def test_distillation_is_zero_only_at_the_teacher() -> None:
    teacher = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    assert abs(distillation_loss(teacher + 3, teacher, 4.0).item()) < 1e-5  # a shift of all logits says the same
    assert distillation_loss(teacher.flip(1), teacher, 4.0).item() > 0.01


def test_high_temperature_limit_is_half_the_squared_distance_of_centred_logits() -> None:
    # Hinton et al. 2015, equation 4: with zero-mean logits, T^2 KL tends to sum((s - t)^2) / (2 classes).
    generator = torch.Generator().manual_seed(1)
    s, t = torch.randn(2, 16, 10, generator=generator, dtype=torch.float64)
    s, t = s - s.mean(1, keepdim=True), t - t.mean(1, keepdim=True)
    expected = (s - t).square().sum(1).mean() / 20
    assert torch.isclose(distillation_loss(s, t, 1e4), expected, rtol=1e-3)


def test_gradients() -> None:
    generator = torch.Generator().manual_seed(2)
    s = torch.randn(4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    t = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    assert gradcheck(lambda x: distillation_loss(x, t, 3.0), (s,))
    assert gradcheck(lambda x: labelled_cross_entropy(x, torch.tensor([0, -1, 2, -1]), 0.1), (s,))


def test_embedding_loss_is_told_by_the_angle_alone() -> None:
    angles = torch.tensor([0.0, math.pi / 3, math.pi / 2, math.pi])
    lengths = torch.tensor([[0.5], [2.0], [7.0], [1.0]])
    student = lengths * torch.stack([angles.cos(), angles.sin()], 1)
    teacher = torch.tensor([[1.0, 0.0]]).expand(4, 2)
    for row, expected in enumerate((0.0, 0.5, 1.0, 2.0)):
        single = embedding_loss(student[row : row + 1], teacher[row : row + 1])
        assert math.isclose(single.item(), expected, abs_tol=1e-6)
    assert math.isclose(embedding_loss(student, teacher).item(), 3.5 / 4, rel_tol=1e-6)
    assert gradcheck(embedding_loss, (student.double().requires_grad_(), teacher.double()))


def test_cross_entropy_looks_at_labelled_images_alone() -> None:
    logits = torch.tensor([[0.0, 0.0], [9.0, -9.0], [1.0, 0.0]])
    expected = (math.log(2) + math.log(1 + math.exp(-1.0))) / 2
    assert math.isclose(labelled_cross_entropy(logits, torch.tensor([1, -1, 0])).item(), expected, rel_tol=1e-6)
    none = labelled_cross_entropy(logits.requires_grad_(), torch.tensor([-1, -1, -1]))
    none.backward()
    assert none.item() == 0.0 and torch.equal(logits.grad, torch.zeros(3, 2))
