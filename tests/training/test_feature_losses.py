"""Values of the losses between embeddings and between feature maps; properties of all losses are in test_losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from compress.training.losses.attention import attention_transfer
from compress.training.losses.crd import crd
from compress.training.losses.embedding import cosine, mse, smooth_l1
from compress.training.losses.hint import hint
from compress.training.losses.rkd import rkd_angle, rkd_distance


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def huber(d: float) -> float:
    return d * d / 2 if abs(d) < 1 else abs(d) - 0.5


def test_cosine_depends_on_the_angle_alone() -> None:
    angles = torch.tensor([0.0, math.pi / 3, math.pi / 2, math.pi])
    lengths = torch.tensor([[0.5], [2.0], [7.0], [1.0]])
    student = lengths * torch.stack([angles.cos(), angles.sin()], 1)
    teacher = torch.tensor([[1.0, 0.0]]).expand(4, 2)
    for row, expected in enumerate((0.0, 0.5, 1.0, 2.0)):
        single = cosine(student[row : row + 1], teacher[row : row + 1])
        assert math.isclose(single.item(), expected, abs_tol=1e-6)
    assert math.isclose(cosine(student, teacher).item(), 3.5 / 4, rel_tol=1e-6)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (mse, (0.25 + 9 + 0 + 1) / 4),
        (smooth_l1, (0.125 + 2.5 + 0 + 0.5) / 4),
        (lambda s, t: smooth_l1(s, t, 2.0), (0.0625 + 2 + 0 + 0.25) / 4),
    ],
)
def test_differences_by_hand(loss: Callable[[Tensor, Tensor], Tensor], expected: float) -> None:
    student, teacher = torch.tensor([[1.5, -2.0], [3.0, 0.0]]), torch.tensor([[1.0, 1.0], [3.0, 1.0]])
    assert math.isclose(loss(student, teacher).item(), expected, rel_tol=1e-6)


def relative_distances(points: list[list[float]]) -> list[float]:
    distances = [math.dist(a, b) for a, b in product(points, points)]
    nonzero = [d for d in distances if d]
    return [d * len(nonzero) / sum(nonzero) for d in distances]


def cosines(points: list[list[float]]) -> list[float]:
    """By the law of cosines, of the angle at the first of three points."""
    found = []
    for a, b, c in product(points, points, points):
        to_b, to_c, across = math.dist(a, b), math.dist(a, c), math.dist(b, c)
        found.append((to_b**2 + to_c**2 - across**2) / (2 * to_b * to_c) if to_b and to_c else 0.0)
    return found


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize(("loss", "relation"), [(rkd_distance, relative_distances), (rkd_angle, cosines)])
def test_relations_by_loops(
    loss: Callable[[Tensor, Tensor], Tensor], relation: Callable[[list[list[float]]], list[float]], repeated: bool
) -> None:
    student, teacher = drawn(5, 3), drawn(5, 4, seed=1)
    student[0] *= 9  # far enough away for the linear part of the Huber loss
    if repeated:
        student[3] = student[1]
    pairs = zip(relation(student.tolist()), relation(teacher.tolist()), strict=True)
    terms = [huber(s - t) for s, t in pairs]
    assert math.isclose(loss(student, teacher).item(), math.fsum(terms) / len(terms), rel_tol=1e-9)


@pytest.mark.parametrize("loss", [rkd_distance, rkd_angle])
def test_relations_are_invariant_to_shift_scale_rotation_and_width(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    teacher, other = drawn(6, 4), drawn(6, 4, seed=1)
    rotation = torch.linalg.qr(drawn(7, 7, seed=2)).Q
    moved = 3.5 * torch.nn.functional.pad(teacher, (0, 3)) @ rotation - 8
    assert abs(loss(moved, teacher).item()) < 1e-12
    assert torch.isclose(loss(moved, other), loss(teacher, other))


@pytest.mark.parametrize(
    ("loss", "images"),
    [(rkd_distance, 1), (rkd_distance, 2), (rkd_angle, 1), (rkd_angle, 2)],
)
def test_relations_of_too_few_images_are_zero(loss: Callable[[Tensor, Tensor], Tensor], images: int) -> None:
    student = drawn(images, 3).requires_grad_()
    value = loss(student, drawn(images, 4, seed=1))
    value.backward()
    assert value.item() < 1e-12 and student.grad is not None and student.grad.abs().max() < 1e-12


def contrast(student: np.ndarray, teacher: np.ndarray, negatives: np.ndarray, z: float, temperature: float) -> float:
    """The critic as probabilities, image by image and pair by pair."""

    def e(a: np.ndarray, b: np.ndarray) -> float:
        return math.exp(a @ b / math.sqrt((a @ a) * (b @ b)) / temperature)

    def h(a: np.ndarray, b: np.ndarray) -> float:
        return e(a, b) / (e(a, b) + len(negatives) * z)

    terms = [
        -math.log(h(s, t)) - sum(math.log(1 - h(s, n)) for n in negatives)
        for s, t in zip(student, teacher, strict=True)
    ]
    return sum(terms) / len(terms)


def test_contrast_and_its_gradient_by_finite_differences_with_a_constant_normaliser() -> None:
    s, t, n = drawn(3, 4), drawn(3, 4, seed=1), drawn(5, 4, seed=2)
    unit_s, unit_n = (x / x.square().sum(1, keepdim=True).sqrt() for x in (s, n))
    z = float(np.mean([math.exp(float(a @ b) / 0.2) for a, b in product(unit_s, unit_n)]))
    value = crd(s.requires_grad_(), t, n, 0.2)
    value.backward()
    point, teacher, others = s.detach().numpy(), t.numpy(), n.numpy()
    assert math.isclose(value.item(), contrast(point, teacher, others, z, 0.2), rel_tol=1e-9)
    for index in np.ndindex(point.shape):
        step = np.zeros_like(point)
        step[index] = 1e-6
        slope = contrast(point + step, teacher, others, z, 0.2) - contrast(point - step, teacher, others, z, 0.2)
        assert s.grad is not None and math.isclose(s.grad[index].item(), slope / 2e-6, rel_tol=1e-5, abs_tol=1e-8)


def test_contrast_with_negatives_at_right_angles() -> None:
    # e is exp(1 / T) for the teacher's embedding and 1 for all negatives, thus Z is 1.
    negatives = torch.eye(8)[1:]
    one = torch.eye(8)[:1]
    expected = math.log(1 + 7 * math.exp(-1 / 0.07)) + 7 * math.log(8 / 7)
    assert math.isclose(crd(3 * one, 0.1 * one, 5 * negatives).item(), expected, rel_tol=1e-6)


@pytest.mark.parametrize("temperature", [1e-3, 0.07, 10.0])
def test_contrast_of_opposites_never_overflows(temperature: float) -> None:
    one = torch.eye(8)[:1].requires_grad_()
    value = crd(one, -one.detach(), one.detach(), temperature)
    value.backward()
    assert math.isclose(value.item(), np.logaddexp(0, 2 / temperature) + math.log(2), rel_tol=1e-6)
    assert one.grad is not None and one.grad.isfinite().all()


def test_contrast_prefers_the_same_image_among_similar_ones() -> None:
    # As embeddings of CLIP, all have a large part in common.
    teacher = drawn(32, 16) + 3
    right, wrong = crd(teacher, teacher, teacher.roll(1, 0)), crd(teacher.roll(1, 0), teacher, teacher)
    assert right < wrong < 2 * math.log(33) + 4


def attention(maps: np.ndarray) -> np.ndarray:
    channels, height, width = maps.shape
    places = [sum(maps[c, y, x] ** 2 for c in range(channels)) / channels for y in range(height) for x in range(width)]
    return np.array([p / math.sqrt(sum(q * q for q in places)) for p in places])


def test_attention_by_loops() -> None:
    student, teacher = drawn(2, 3, 4, 5), drawn(2, 6, 4, 5, seed=1)
    expected = 0.0
    for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
        expected += sum((a - b) ** 2 for a, b in zip(attention(s), attention(t), strict=True)) / 40
    assert math.isclose(attention_transfer(student, teacher).item(), expected, rel_tol=1e-9)


def test_attention_is_invariant_to_scale_sign_and_number_of_channels() -> None:
    student, teacher = drawn(2, 3, 4, 4), drawn(2, 3, 4, 4, seed=1)
    scales = torch.tensor([-0.1, 30.0]).view(2, 1, 1, 1)
    changed = attention_transfer((scales * student).repeat(1, 2, 1, 1), teacher)
    assert torch.isclose(changed, attention_transfer(student, teacher))


def test_hint_by_loops() -> None:
    student, teacher = drawn(2, 3, 4, 5), drawn(2, 3, 4, 5, seed=1)
    terms = [float(student[i] - teacher[i]) ** 2 for i in product(range(2), range(3), range(4), range(5))]
    assert math.isclose(hint(student, teacher).item(), math.fsum(terms) / 120, rel_tol=1e-9)


@pytest.mark.parametrize("loss", [attention_transfer, hint])
@pytest.mark.parametrize("factors", [(2, 1), (1, 3), (2, 2)])
def test_larger_maps_are_averaged_to_the_smaller(
    loss: Callable[[Tensor, Tensor], Tensor], factors: tuple[int, int]
) -> None:
    small, other = drawn(2, 3, 4, 4), drawn(2, 3, 4, 4, seed=1)
    large = small.repeat_interleave(factors[0], 2).repeat_interleave(factors[1], 3)
    # What adds up to 0 in each block of an average leaves the average as it is.
    ripple = torch.ones(large.shape)
    ripple[:, :, :: factors[0], :: factors[1]] = 1 - factors[0] * factors[1]
    assert torch.isclose(loss(large + ripple, other), loss(small, other))
    assert torch.isclose(loss(other, large + ripple), loss(other, small))


def test_maps_may_each_be_larger_in_one_direction() -> None:
    small = drawn(2, 3, 2, 2)
    tall, wide = small.repeat_interleave(2, 2), small.repeat_interleave(2, 3)
    assert abs(hint(tall, wide).item()) < 1e-12
