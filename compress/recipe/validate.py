"""Checks across keys of a recipe whose values are valid one by one."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from compress import registry
from compress.recipe.fit import Distillation, Fit, distillation_problems
from compress.recipe.schema import Recipe
from compress.recipe.stage import StageSection
from compress.recipe.worth import Budgets
from compress.recipe.yaml_tree import Node
from compress.utils.errors import Problem
from compress.utils.messages import join_words

TEST_SELECTION = (
    "checkpoint selection on the test split biases test accuracy; to reproduce a published figure that was selected "
    "this way, set `allow: [test-selection]` at the top of the recipe"
)
ONE_DEVICE = "`lower` is supported on one device only; set `trainer.devices: 1`"
MULTIPROCESS = ("spawn", "fork", "notebook")  # Lightning strategies whose workers do not return the trained weights


def section_problems(recipe: Recipe, root: Node) -> Iterator[Problem]:
    """Yield the problems between keys of a recipe, each with its place in the file."""
    yield from _data_problems(recipe, root)
    yield from _machine_problems(recipe, root)
    yield from _deployment_problems(recipe, root)
    for index, stage in enumerate(recipe.stages):
        for key, message in [*stage.problems(recipe), *_fit_problems(stage, recipe)]:
            yield Problem(_stage_place(root, index, key), f"stages.{stage.id}.{key}: {message}")


def _data_problems(recipe: Recipe, root: Node) -> Iterator[Problem]:
    source = registry.source(recipe.data.source)
    if missing := source.missing():
        message = f"{recipe.data.source} needs {join_words(missing, 'and')}: {source.install}"
        yield Problem(_place(root, "data", "source"), f"data.source: {message}")


def _machine_problems(recipe: Recipe, root: Node) -> Iterator[Problem]:
    if any(word in recipe.trainer.strategy for word in MULTIPROCESS):
        message = f"{recipe.trainer.strategy} is not supported: its workers do not return the trained weights; use ddp"
        yield Problem(_place(root, "trainer", "strategy"), f"trainer.strategy: {message}")
    measure = recipe.measure
    if measure.carbon_g_per_kwh and measure.energy == "off" and not measure.watts:
        message = "carbon needs energy; set `watts` or `energy: auto`"
        yield Problem(_place(root, "measure", "carbon_g_per_kwh"), f"measure.carbon_g_per_kwh: {message}")
    if measure.on and not any(stage.sends_files() for stage in recipe.stages):
        message = "no stage exports files that other machines can be sent; add an export to a runtime that runs there"
        yield Problem(_place(root, "measure", "on"), f"measure.on: {message}, or remove `on`")


def _deployment_problems(recipe: Recipe, root: Node) -> Iterator[Problem]:
    place = _place(root, "worth", "deployments")
    for index, profile in enumerate(recipe.worth.deployments):
        where = f"worth.deployments.{index}"
        if profile.runtime is None and not profile.toolchain:
            remedy = f"set the runtime used on {profile.name}, or `toolchain` if none here serves it"
            yield Problem(place, f"{where}.runtime: is missing; {remedy}")
        elif profile.runtime is None and (profile.processor or profile.budgets.size_mb):
            yield Problem(place, f"{where}.runtime: is missing; set it, or remove `processor` and `size_mb`")
        if not any(profile.budgets.model_dump().values()):
            budgets = join_words([f"`{name}`" for name in Budgets.model_fields])
            yield Problem(place, f"{where}.budgets: {profile.name} has no budget; set {budgets}")
        if profile.name in [other.name for other in recipe.worth.deployments[:index]]:
            yield Problem(place, f"{where}.name: duplicate deployment {profile.name!r}; rename one")


def _fit_problems(stage: StageSection, recipe: Recipe) -> Iterator[tuple[str, str]]:
    for holder, fit in stage.fits():
        for key, message in [*_problems_of(fit, stage, recipe), *_batch_problems(fit, stage, recipe)]:
            yield holder or key, message


def _problems_of(fit: Fit, stage: StageSection, recipe: Recipe) -> Iterator[tuple[str, str]]:
    if isinstance(fit, Distillation):
        yield from distillation_problems(fit, embeds=stage.embeds_in(recipe))
    if fit.select_on == "test" and "test-selection" not in recipe.allow:
        yield "select_on", TEST_SELECTION
    if fit.on_divergence == "lower" and recipe.trainer.several_processes:
        yield "on_divergence", ONE_DEVICE


def batch_problems(recipe: Recipe, made: Collection[str]) -> Iterator[str]:
    """Yield a line for each batch of the stages `made` that is too small for the recipe's number of devices."""
    for stage in (each for each in recipe.stages if each.id in made):
        for holder, fit in stage.fits():
            for key, message in _batch_problems(fit, stage, recipe):
                yield f"stages.{stage.id}.{holder or key}: {message}"


def _batch_problems(fit: Fit, stage: StageSection, recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield a batch of less than two images per device for a network with batch norm; frozen ones are checked later."""
    processes = recipe.trainer.least_processes
    if fit.epochs and not fit.freeze and fit.batch < 2 * processes and (model := stage.batch_norm_in(recipe)):
        where = f" on each of {processes} devices" if processes > 1 else ""
        needs = f"{model} has batch norm, which needs two or more images{where}"
        yield "batch", f"{needs}; set `batch` to {2 * processes} or more"


def _place(root: Node, section: str, key: str) -> str:
    """Return the place of a key, or of the nearest section above where the recipe leaves it out."""
    node = root.child(section) or root
    return (node.child(key) or node).place


def _stage_place(root: Node, index: int, key: str) -> str:
    stages = root.child("stages")
    stage = stages.child(index) if stages else None
    return ((stage.child(key) or stage) if stage else root).place
