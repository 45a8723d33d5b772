"""The objective is the weighted sum of the losses that a recipe names."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from compress.data.preprocess import Preprocess
from compress.models.teachers import LoadedTeacher
from compress.recipe.fit import Distillation
from compress.registry import LOSSES
from compress.training.hooks import map_shapes
from compress.training.losses.dkd import dkd
from compress.training.losses.kd import kd
from compress.training.objective import Objective
from compress.training.teacher_signal import OnlineTeacher
from compress.utils.errors import UsageError

CLASSES, FEATURES, WIDTH = 3, 5, 4
MAPS = dict.fromkeys(("attention", "hint"), (torch.Size((1, 2, 4, 4)), torch.Size((1, 3, 2, 2))))


def batch(progress: float = 0.0, seed: int = 0) -> dict[str, Any]:
    """Arguments of the objective for a batch of 6 images."""
    draw = torch.Generator().manual_seed(seed)
    return {
        "logits": torch.randn(6, CLASSES, generator=draw),
        "features": torch.randn(6, FEATURES, generator=draw),
        "teacher_embeddings": torch.randn(6, WIDTH, generator=draw),
        "labels": torch.tensor([0, 1, -1, 2, -1, 0]),
        "progress": progress,
        "sample_negatives": lambda count: torch.randn(count, WIDTH, generator=draw),
        "maps": dict.fromkeys(MAPS, (torch.randn(6, 2, 4, 4, generator=draw), torch.randn(6, 3, 2, 2, generator=draw))),
    }


def objective(**settings: object) -> Objective:
    torch.manual_seed(1)
    chosen = Distillation.model_validate(settings)
    shapes = {name: MAPS[name] for name in chosen.losses.named() if name in MAPS}
    return Objective(chosen, nn.Linear(WIDTH, CLASSES), FEATURES, WIDTH, shapes)


LAYERS = {"student_layer": "a", "teacher_layer": "b"}
ALONE = {name: LAYERS if name in MAPS else {} for name in LOSSES} | {"crd": {"negatives": 8}}


@pytest.mark.parametrize("name", LOSSES)
def test_a_weight_multiplies_its_loss(name: str) -> None:
    once = objective(losses={name: ALONE[name]})(**batch())
    thrice = objective(losses={name: {**ALONE[name], "weight": 3}})(**batch())
    assert once > 0 and math.isclose(thrice, 3 * once, rel_tol=1e-5)


def test_projection_adapters_and_heads_count_in_the_macs() -> None:
    adapter = 2 * 3 * 4 * 4  # 1x1 convolution of the student's 4x4 maps, 2 channels to 3
    projection, head = FEATURES * WIDTH, WIDTH * CLASSES
    assert objective(losses={"hint": LAYERS}).step_macs(2) == 2 * (3 * adapter + head)
    both = {"hint": LAYERS, "embedding": 1}
    assert objective(losses=both).step_macs(2) == 2 * (3 * adapter + 3 * projection + head)
    mixed = objective(losses=both, mix={"kind": "mixup", "probability": 0.5})
    assert mixed.step_macs(2) == 1.5 * 2 * (3 * adapter + 3 * projection + head)
    folded = objective(losses={"embedding": 1}, classifier="teacher")
    assert folded.step_macs(2) == 2 * (3 * projection + 3 * head) + head * FEATURES


def test_the_head_of_the_caller_stays_trainable() -> None:
    head = nn.Linear(WIDTH, CLASSES)
    made = Objective(Distillation(), head, FEATURES, WIDTH, {})
    assert head.weight.requires_grad and not made.head.weight.requires_grad
    assert torch.equal(head.weight, made.head.weight)


def test_losses_add_up() -> None:
    parts = [objective(losses={"kd": {"temperature": 4}})(**batch()), objective(losses={"embedding": 15})(**batch())]
    both = objective(losses={"kd": {"temperature": 4}, "embedding": 15})(**batch())
    assert math.isclose(both, sum(parts), rel_tol=1e-5)


def test_teacher_logits_are_those_of_the_head_on_the_embeddings() -> None:
    module, given = objective(losses={"kd": {"temperature": 4}}), batch()
    assert torch.allclose(module(**given), kd(given["logits"], module.head(given["teacher_embeddings"]), 4.0))
    assert not any(parameter.requires_grad for parameter in module.head.parameters())


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 2.0), (0.25, 5.0), (0.5, 8.0), (0.9, 8.0)])
def test_weights_and_temperatures_follow_their_schedules(progress: float, expected: float) -> None:
    ramp = {"start": 2, "end": 8, "until": 0.5}
    changing, still = objective(losses={"ce": {"weight": ramp}}), objective(losses={"ce": {"weight": expected}})
    assert torch.allclose(changing(**batch(progress)), still(**batch(progress)))
    hot, cold = (
        objective(losses={"kd": {"temperature": ramp}}),
        objective(losses={"kd": {"temperature": expected}}),
    )
    assert torch.allclose(hot(**batch(progress)), cold(**batch(progress)))


def test_dkd_takes_the_teachers_top_class_for_images_without_a_label() -> None:
    module, given = objective(losses={"dkd": 1}), batch()
    teacher, labels = module.head(given["teacher_embeddings"]), given["labels"]
    target = torch.where(labels < 0, teacher.argmax(1), labels)
    assert torch.allclose(module(**given), dkd(given["logits"], teacher, target, 4.0, 1.0, 8.0))


def test_folding_gives_the_classifier_the_projection_followed_by_the_head() -> None:
    module = objective(losses={"embedding": 1}, classifier="teacher")
    folded = nn.Linear(FEATURES, CLASSES)
    module.fold_into(folded)
    features = batch()["features"]
    assert module.projection is not None
    assert torch.allclose(folded(features), module.head(module.projection(features)), atol=1e-6)


def test_a_layer_whose_output_is_not_a_map_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))
    settings = Distillation.model_validate({"losses": {"hint": {"student_layer": "2", "teacher_layer": "0"}}})
    preprocess = Preprocess(8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    live = OnlineTeacher(LoadedTeacher(network, nn.Identity(), preprocess), nn.Identity(), views=1)
    with pytest.raises(UsageError, match=r"the layer '2' gives \[1, 2\], not maps \[b, c, h, w\]"):
        map_shapes(settings.losses, network, preprocess, live)
