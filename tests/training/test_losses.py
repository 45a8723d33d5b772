"""Properties of every loss function, and the values of those between logits."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from importlib import import_module
from inspect import isfunction

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from compress.registry import LOSSES
from compress.training.losses.attention import attention_transfer
from compress.training.losses.ce import labelled_cross_entropy
from compress.training.losses.crd import crd
from compress.training.losses.dist import dist
from compress.training.losses.dkd import dkd
from compress.training.losses.embedding import cosine, mse, smooth_l1
from compress.training.losses.hint import hint
from compress.training.losses.kd import kd, kd_standardized
from compress.training.losses.rkd import rkd_angle, rkd_distance

LOGITS, EMBEDDINGS, MAPS = (5,), (4,), (3, 4, 4)
Loss = Callable[[Tensor, Tensor], Tensor]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def targets(logits: Tensor) -> Tensor:
    return torch.arange(len(logits)) % 3  # classes 3 and 4 are in no batch


EVERY: dict[str, tuple[tuple[int, ...], Loss]] = {
    "kd": (LOGITS, lambda s, t: kd(s, t, 3.0)),
    "kd_standardized": (LOGITS, lambda s, t: kd_standardized(s, t, 2.0)),
    "dkd": (LOGITS, lambda s, t: dkd(s, t, targets(s), 4.0)),
    "dist": (LOGITS, lambda s, t: dist(s, t, 2.0, 1.5, 0.5)),
    "labelled_cross_entropy": (LOGITS, lambda s, t: labelled_cross_entropy(s, targets(s), 0.1)),
    "cosine": (EMBEDDINGS, cosine),
    "mse": (EMBEDDINGS, mse),
    "smooth_l1": (EMBEDDINGS, lambda s, t: smooth_l1(s, t, 0.5)),
    "rkd_distance": (EMBEDDINGS, rkd_distance),
    "rkd_angle": (EMBEDDINGS, rkd_angle),
    "crd": (EMBEDDINGS, lambda s, t: crd(s, t, drawn(6, 4, seed=9).bfloat16().to(t.dtype))),
    "attention_transfer": (MAPS, attention_transfer),
    "hint": (MAPS, hint),
}
every = pytest.mark.parametrize("name", EVERY)

AWKWARD: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "one image": lambda s, t: (s[:1], t[:1]),
    "two images": lambda s, t: (s[:2], t[:2]),
    "the same image again and again": lambda s, t: (s[:1].repeat_interleave(4, 0), t[:1].repeat_interleave(4, 0)),
    "the student sees them as the same": lambda s, t: (s[:1].repeat_interleave(len(t), 0), t),
    "the student at 0": lambda s, t: (s * 0, t),
    "the teacher at 0": lambda s, t: (s, t * 0),
    "both at 0": lambda s, t: (s * 0, t * 0),
    "all numbers equal": lambda s, t: (s * 0 + 0.1, t * 0 - 7.3),
    "the student is the teacher": lambda s, t: (t, t),
    "large and opposite": lambda s, t: (100 * t.sign(), -100 * t.sign()),
    "large and certain of one class": lambda s, t: (s * 0 + 100 * (s == s.amax(1, keepdim=True)), t * 100),
}


def test_every_loss_function_is_covered() -> None:
    modules = [import_module(place.partition(":")[0]) for place in LOSSES.values()]
    functions = [
        f for module in modules for f in vars(module).values() if isfunction(f) and f.__module__ == module.__name__
    ]
    assert set(EVERY) == {function.__name__ for function in functions if hasattr(function, "__wrapped__")}


@every
@pytest.mark.parametrize("case", AWKWARD)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_awkward_batches_give_finite_losses_and_moderate_gradients(name: str, case: str, dtype: torch.dtype) -> None:
    shape, loss = EVERY[name]
    student, teacher = AWKWARD[case](drawn(6, *shape), drawn(6, *shape, seed=1))
    student, teacher = student.to(dtype).requires_grad_(), teacher.to(dtype)
    value = loss(student, teacher)
    value.backward()
    assert value.shape == () and value.dtype == torch.float32 and value.isfinite()
    assert student.grad is not None and student.grad.abs().max() < 1e3  # which is false for NaN, too


@every
def test_half_precision_is_cast_to_float32_before_the_loss(name: str) -> None:
    shape, loss = EVERY[name]
    student, teacher = drawn(6, *shape), drawn(6, *shape, seed=1)
    rounded = loss(student.bfloat16().float(), teacher.bfloat16().float())
    assert torch.equal(loss(student.bfloat16(), teacher.bfloat16()), rounded)
    assert loss(student.half(), teacher.half()).dtype == torch.float32
    outside = loss(student.float(), teacher.float())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(student.float(), teacher.float()), outside)


@pytest.mark.parametrize("name", sorted(set(EVERY) - {"crd"}))  # whose Z is held constant: see test_feature_losses
@pytest.mark.parametrize("images", [1, 4])
def test_gradients_match_finite_differences(name: str, images: int) -> None:
    shape, loss = EVERY[name]
    student, teacher = drawn(images, *shape).requires_grad_(), drawn(images, *shape, seed=1)
    assert gradcheck(lambda s: loss(s, teacher), (student,))


@pytest.mark.parametrize("name", sorted(set(EVERY) - {"crd", "labelled_cross_entropy"}))
def test_the_loss_is_zero_for_the_teacher_itself_and_positive_for_others(name: str) -> None:
    shape, loss = EVERY[name]
    teacher = drawn(6, *shape)
    assert abs(loss(teacher, teacher).item()) < 1e-5  # not quite 0 because of DIST's 1e-8
    assert loss(drawn(6, *shape, seed=1), teacher).item() > 0.01


@pytest.mark.parametrize("name", ["kd", "kd_standardized", "cosine", "mse", "smooth_l1", "attention_transfer", "hint"])
def test_the_loss_of_a_batch_is_the_mean_over_its_images(name: str) -> None:
    shape, loss = EVERY[name]
    student, teacher = drawn(3, *shape), drawn(3, *shape, seed=1)
    single = [loss(s[None], t[None]).item() for s, t in zip(student, teacher, strict=True)]
    assert math.isclose(loss(student, teacher).item(), statistics.mean(single), rel_tol=1e-9)


def divergence(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_kd_by_hand() -> None:
    # Two classes: softmax([a, 0] / T) is a logistic, so the divergence can be worked out with logarithms alone.
    student, teacher, temperature = [[1.0, 0.0], [0.0, 3.0]], [[2.0, 0.0], [0.0, 0.0]], 2.0
    expected = 0.0
    for s, t in zip(student, teacher, strict=True):
        p, q = logistic((t[0] - t[1]) / temperature), logistic((s[0] - s[1]) / temperature)
        expected += divergence([p, 1 - p], [q, 1 - q])
    expected *= temperature**2 / 2
    assert math.isclose(kd(torch.tensor(student), torch.tensor(teacher), 2.0).item(), expected, rel_tol=1e-5)


@pytest.mark.parametrize("name", ["kd", "kd_standardized", "dkd", "dist"])
def test_a_constant_added_to_the_logits_of_an_image_changes_nothing(name: str) -> None:
    student, teacher = drawn(6, 5), drawn(6, 5, seed=1)
    shifted = student + drawn(6, 1, seed=2)
    assert torch.isclose(EVERY[name][1](shifted, teacher), EVERY[name][1](student, teacher))


def test_kd_at_high_temperature_tends_to_half_the_squared_distance_of_centred_logits() -> None:
    # Hinton et al. 2015, equation 4: with zero-mean logits, T^2 KL tends to sum((s - t)^2) / (2 classes).
    s, t = drawn(2, 16, 10)
    s, t = s - s.mean(1, keepdim=True), t - t.mean(1, keepdim=True)
    expected = (s - t).square().sum(1).mean() / 20
    assert torch.isclose(kd(s, t, 1e4), expected, rtol=1e-3)


def test_standardized_kd_by_hand() -> None:
    # Of two different logits, the sample's deviation makes +-sqrt(1/2), however far apart they are.
    agreeing, opposed = torch.tensor([[5.0, 1.0]]), torch.tensor([[-0.3, 0.3]])
    p = logistic(math.sqrt(2) / 3)
    assert abs(kd_standardized(agreeing * 7 - 2, agreeing, 3.0).item()) < 1e-5
    expected = 9 * divergence([p, 1 - p], [1 - p, p])
    assert math.isclose(kd_standardized(opposed, agreeing, 3.0).item(), expected, rel_tol=1e-5)

    row = [0.3, -2.0, 1.1, 4.0]
    z = [(x - statistics.mean(row)) / statistics.stdev(row) for x in row]
    whole = sum(math.exp(x / 2) for x in z)
    expected = 4 * divergence([math.exp(x / 2) / whole for x in z], [0.25] * 4)
    assert math.isclose(kd_standardized(torch.ones(1, 4), torch.tensor([row]), 2.0).item(), expected, rel_tol=1e-5)


@pytest.mark.parametrize("side", [0, 1])
def test_standardized_kd_is_invariant_to_scale_and_shift_of_either_side(side: int) -> None:
    given = [drawn(6, 5), drawn(6, 5, seed=1)]
    before = kd_standardized(given[0], given[1], 2.0)
    given[side] = given[side] * torch.arange(1, 7)[:, None] + torch.arange(-3, 3)[:, None]
    assert torch.isclose(kd_standardized(given[0], given[1], 2.0), before, rtol=1e-5)


@pytest.mark.parametrize("name", ["kd_standardized", "dist"])
def test_a_zero_initialized_classifier_is_pulled_to_the_teachers_class(name: str) -> None:
    student, teacher = torch.zeros(6, 5, requires_grad=True), drawn(6, 5)
    EVERY[name][1](student, teacher.float()).backward()
    assert student.grad is not None and torch.equal(student.grad.argmin(1), teacher.argmax(1))


def test_dkd_by_hand() -> None:
    teacher, student = torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([[0.25, 0.25, 0.5]]).log() + 4
    tckd = divergence([1 / 2, 1 / 2], [1 / 4, 3 / 4])
    nckd = divergence([1 / 2, 1 / 2], [1 / 3, 2 / 3])
    first = dkd(student, teacher, torch.tensor([0]), 1.0, 3.0, 5.0).item()
    assert math.isclose(first, 3 * tckd + 5 * nckd, rel_tol=1e-5)

    other = 3 * divergence([1 / 4, 3 / 4], [1 / 2, 1 / 2]) + 5 * divergence([2 / 3, 1 / 3], [1 / 2, 1 / 2])
    both = dkd(student.repeat(2, 1), teacher.repeat(2, 1), torch.tensor([0, 2]), 1.0, 3.0, 5.0).item()
    assert math.isclose(both, (first + other) / 2, rel_tol=1e-5)


def test_dkd_of_two_classes_has_no_nckd() -> None:
    student, teacher, target = drawn(6, 2), drawn(6, 2, seed=1), targets(drawn(6, 2)) % 2
    expected = 3 * kd(student, teacher, 4.0)
    assert torch.isclose(dkd(student, teacher, target, 4.0, 3.0, 99.0), expected)


@pytest.mark.parametrize("target", range(5))
def test_dkd_with_the_weights_of_kd_is_kd(target: int) -> None:
    for s, t in zip(drawn(6, 5), drawn(6, 5, seed=1), strict=True):
        rest = 1 - float(np.exp(t[target] / 4.0) / np.exp(t / 4.0).sum())
        decoupled = dkd(s[None], t[None], torch.tensor([target]), 4.0, 1.0, rest)
        assert torch.isclose(decoupled, kd(s[None], t[None], 4.0), rtol=1e-9)


def test_dist_is_one_minus_the_correlations() -> None:
    student, teacher = drawn(4, 5), drawn(4, 5, seed=1)
    s, t = (np.exp(x / 2.0) / np.exp(x / 2.0).sum(1, keepdims=True) for x in (student.numpy(), teacher.numpy()))
    inter = np.mean([1 - np.corrcoef(s[i], t[i])[0, 1] for i in range(4)])
    intra = np.mean([1 - np.corrcoef(s[:, k], t[:, k])[0, 1] for k in range(5)])
    assert math.isclose(dist(student, teacher, 2.0, 3.0, 0.0).item(), 4 * 3 * inter, rel_tol=1e-5)
    assert math.isclose(dist(student, teacher, 2.0, 0.0, 3.0).item(), 4 * 3 * intra, rel_tol=1e-5)
    both = dist(student, teacher, 2.0, 3.0, 5.0).item()
    assert math.isclose(both, 4 * (3 * inter + 5 * intra), rel_tol=1e-5)


def test_dist_is_invariant_to_affine_changes_of_probabilities() -> None:
    teacher = drawn(6, 5)
    student = (0.3 * teacher.softmax(1) + 0.7 / 5).log()
    assert abs(dist(student, teacher).item()) < 1e-5
    assert kd(student, teacher, 1.0) > 0.05


def test_dist_of_a_single_image_has_no_relations_between_images() -> None:
    student, teacher = drawn(1, 5), drawn(1, 5, seed=1)
    assert dist(student, teacher, 1.0, 0.0, 1.0).item() == 0.0
    assert dist(student, teacher, 1.0, 1.0, 1.0) == dist(student, teacher, 1.0, 1.0, 0.0)


def test_cross_entropy_ignores_images_without_a_label() -> None:
    logits = torch.tensor([[0.0, 0.0], [9.0, -9.0], [1.0, 0.0]])
    expected = (math.log(2) + math.log(1 + math.exp(-1.0))) / 2
    assert math.isclose(labelled_cross_entropy(logits, torch.tensor([1, -1, 0])).item(), expected, rel_tol=1e-6)
    none = labelled_cross_entropy(logits.requires_grad_(), torch.tensor([-1, -1, -1]))
    none.backward()
    assert none.item() == 0.0 and torch.equal(logits.grad, torch.zeros(3, 2))


def test_label_smoothing_spreads_a_share_of_the_label_over_all_classes() -> None:
    logits = torch.tensor([[2.0, 0.0]])
    right, wrong = -math.log(logistic(2.0)), -math.log(logistic(-2.0))
    smoothed = labelled_cross_entropy(logits, torch.tensor([0]), 0.2).item()
    assert math.isclose(smoothed, 0.9 * right + 0.1 * wrong, rel_tol=1e-6)
