"""Every setting of a stage is in its store key as it is, or has a reason not to be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from compress.recipe import load_recipe
from compress.stages.kind import IDENTITY, StageKind, kind_of

RECIPES = (
    "quickstart",
    "quickstart_ablation",
    "embedding_student",
    "quantization",
    "sparsify",
    "prune_sweep",
    "runtimes",
)
CHANGED = {
    ("seed",): "the recipe's own written out gives the same key",
    ("method",): "of `method: auto`, the one that is chosen",
    ("reduce_range",): "its default depends on nothing else: true",
    ("diagnose",): "stated only where it is off",
    ("sparsity",): "that of the pattern, where it fixes one",
    ("until",): "only unstructured sparsity is reached in steps",
    ("repair", "verify"): "a check of what is made",
    ("training", "verify"): "a check of what is made",
    ("student", "mean"): "random weights have a default, others their own",
    ("student", "std"): "random weights have a default, others their own",
    ("student", "pretraining"): "what was trained before is not made here",
    ("student", "checkpoint"): "the content of the file counts",
    ("student", "model"): "the content of a local folder counts",
}
"""Settings that keys have otherwise, or not at all, and why."""


def leaves(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from leaves(inner, (*place, name))
    else:
        yield place, value


def stages() -> Iterator[Any]:
    for name in RECIPES:
        recipe = load_recipe(name)
        for section in recipe.stages:
            stage = kind_of(section)
            if any(True for _ in stage.fits()):
                yield pytest.param(stage, recipe, id=f"{name}-{stage.id}")


@pytest.mark.parametrize(("stage", "recipe"), stages())
def test_settings_are_in_the_key(stage: StageKind, recipe: Any) -> None:
    settings = stage.key_settings(recipe)
    wrong = []
    for place, value in leaves(stage.model_dump(mode="json", exclude=dict.fromkeys(IDENTITY, True))):
        found: Any = settings
        for name in place:
            found = found.get(name) if isinstance(found, dict) else None
        if found != value and not any(place[: len(known)] == known for known in CHANGED):
            wrong.append(f"{'.'.join(place)}: {value} is {found}")
    assert not wrong


@pytest.mark.parametrize("views", [1, 5])
def test_a_distillation_of_other_views_is_another_entry(views: int) -> None:
    recipe = load_recipe("quickstart")
    stage = next(kind_of(section) for section in recipe.stages if section.id == "distilled")
    assert stage.model_copy(update={"views": views}).key_settings(recipe) != stage.key_settings(recipe)
