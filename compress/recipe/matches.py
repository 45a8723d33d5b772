"""The controls of training compute that a recipe leaves to `worth.compute_matched`."""

from __future__ import annotations

from itertools import count

from compress.recipe.graph import teacher_of
from compress.recipe.schema import Recipe
from compress.recipe.stage import StageSection, stage_sections

MAX_LENGTH = 64
"""Characters of an id."""


def add_matches(recipe: Recipe) -> Recipe:
    """Add a `match` stage for every `train` stage and every variant that is distilled or repaired, unless it has one.

    A network that teaches a variant is no control of it. Variants without training of their own, such as quantized
    ones, take the control of the variant that they are made from; a control needs none.
    """
    if not recipe.worth.compute_matched:
        return recipe
    taken = {stage.id for stage in recipe.stages}
    present = {(getattr(stage, "baseline", None), *stage.parents()) for stage in recipe.stages if stage.kind == "match"}
    added: list[StageSection] = []
    for variant in recipe.stages:
        if not variant.parents() or not any(fit.epochs for _, fit in variant.fits()):
            continue
        teacher = teacher_of(recipe, variant.id)
        for baseline in recipe.stages:
            trained = baseline.kind == "train" and any(baseline.fits())  # a probe cannot be trained for longer
            if trained and baseline is not teacher and (baseline.id, variant.id) not in present:
                name = _free(f"{baseline.id}-for-{variant.id}", taken)
                taken.add(name)
                stage = {"id": name, "kind": "match", "from": variant.id, "baseline": baseline.id}
                added.append(stage_sections()["match"].model_validate(stage))
    return recipe.model_copy(update={"stages": [*recipe.stages, *added]})


def _free(name: str, taken: set[str]) -> str:
    """Return an id that no stage has, as similar to `name` as its length allows."""
    if len(name) <= MAX_LENGTH and name not in taken:
        return name
    ends = (f"-{number}" for number in count(2))
    return next(free for end in ends if (free := name[: MAX_LENGTH - len(end)] + end) not in taken)
