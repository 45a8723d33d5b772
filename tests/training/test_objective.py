"""The objective sums what a recipe names, and its parts reach what they should."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from compress.data.preprocess import Preprocess
from compress.models.teachers import LoadedTeacher
from compress.recipe.fit import Distillation
from compress.training import losses
from compress.training.hooks import hint_maps
from compress.training.objective import TERMS, Objective, Step
from compress.training.teacher_signal import OnlineTeacher
from compress.utils.errors import UsageError

CLASSES, FEATURES, WIDTH = 3, 5, 4
MAPS = torch.Size((1, 2, 4, 4)), torch.Size((1, 3, 2, 2))


def step(progress: float = 0.0, seed: int = 0) -> Step:
    draw = torch.Generator().manual_seed(seed)
    return Step(
        logits=torch.randn(6, CLASSES, generator=draw),
        features=torch.randn(6, FEATURES, generator=draw),
        told=torch.randn(6, WIDTH, generator=draw),
        labels=torch.tensor([0, 1, -1, 2, -1, 0]),
        progress=progress,
        others=lambda count: torch.randn(count, WIDTH, generator=draw),
        maps=dict.fromkeys(
            ("attention", "hint"), (torch.randn(6, 2, 4, 4, generator=draw), torch.randn(6, 3, 2, 2, generator=draw))
        ),
    )


def objective(**settings: object) -> Objective:
    torch.manual_seed(1)
    return Objective(Distillation.model_validate(settings), nn.Linear(WIDTH, CLASSES), FEATURES, WIDTH, MAPS)


LAYERS = {"student_layer": "a", "teacher_layer": "b"}
ALONE = {name: LAYERS if name in ("attention", "hint") else {} for name in TERMS} | {"crd": {"negatives": 8}}


def test_every_loss_that_a_recipe_names_is_computed() -> None:
    assert set(TERMS) == set(Distillation.model_fields["losses"].annotation.model_fields) - {"own"}  # type: ignore[union-attr]


@pytest.mark.parametrize("name", sorted(TERMS))
def test_a_weight_multiplies_its_loss(name: str) -> None:
    once = objective(losses={name: ALONE[name]})(step())
    thrice = objective(losses={name: {**ALONE[name], "weight": 3}})(step())
    assert once > 0 and math.isclose(thrice, 3 * once, rel_tol=1e-5)


def test_projection_and_adapter_are_counted() -> None:
    adapter = 2 * 3 * 4 * 4  # 1x1 convolution of the student's 4x4 maps, 2 channels to 3
    assert objective(losses={"hint": LAYERS}).macs == 3 * adapter
    assert objective(losses={"hint": LAYERS, "embedding": 1}).macs == 3 * (adapter + FEATURES * WIDTH)


def test_losses_add_up() -> None:
    parts = [objective(losses={"kd": {"temperature": 4}})(step()), objective(losses={"embedding": 15})(step())]
    both = objective(losses={"kd": {"temperature": 4}, "embedding": 15})(step())
    assert math.isclose(both, sum(parts), rel_tol=1e-5)


def test_kd_is_of_the_head_on_the_embeddings() -> None:
    module = objective(losses={"kd": {"temperature": 4}})
    seen = step()
    assert torch.allclose(module(seen), losses.kd(seen.logits, module.head(seen.told), 4.0))
    assert not any(parameter.requires_grad for parameter in module.head.parameters())


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 2.0), (0.25, 5.0), (0.5, 8.0), (0.9, 8.0)])
def test_weights_and_temperatures_follow_their_schedules(progress: float, expected: float) -> None:
    ramp = {"start": 2, "end": 8, "until": 0.5}
    changing, still = objective(losses={"ce": {"weight": ramp}}), objective(losses={"ce": {"weight": expected}})
    assert torch.allclose(changing(step(progress)), still(step(progress)))
    hot, cold = (
        objective(losses={"kd": {"temperature": ramp}}),
        objective(losses={"kd": {"temperature": expected}}),
    )
    assert torch.allclose(hot(step(progress)), cold(step(progress)))


def test_images_without_a_label_have_the_teachers_top_class_in_dkd() -> None:
    module = objective(losses={"dkd": 1})
    seen = step()
    told = module.head(seen.told).argmax(1)
    filled = torch.where(seen.labels < 0, told, seen.labels)
    assert torch.allclose(module(seen), losses.dkd(seen.logits, module.head(seen.told), filled, 4.0, 1.0, 8.0))


def test_a_classifier_of_the_teacher_is_the_projection_and_the_head_in_one_layer() -> None:
    module = objective(losses={"embedding": 1}, classifier="teacher")
    folded = nn.Linear(FEATURES, CLASSES)
    module.fold_into(folded)
    features = step().features
    assert module.projection is not None
    assert torch.allclose(folded(features), module.head(module.projection(features)), atol=1e-6)


def test_a_layer_that_makes_no_maps() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))
    settings = Distillation.model_validate({"losses": {"hint": {"student_layer": "2", "teacher_layer": "0"}}})
    preprocess = Preprocess(8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    live = OnlineTeacher(LoadedTeacher(network, nn.Identity(), preprocess), nn.Identity(), views=1)
    with pytest.raises(UsageError, match=r"the layer '2' gives \[1, 2\], not maps \[b, c, h, w\]"):
        hint_maps(settings.losses, network, preprocess, live)
