"""Checks of a space on its recipe before anything is trained: values, combinations of a grid, and figures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from compress.gate.rules import Metric, Rule
from compress.recipe.load import load_recipe
from compress.recipe.overrides import write_override
from compress.recipe.schema import Recipe
from compress.recipe.yaml_tree import Node
from compress.registry import PYTORCH
from compress.stages.export import ExportStage
from compress.stages.kind import StageKind
from compress.stages.model import is_onnx_network
from compress.sweep.objectives import parse_objective
from compress.sweep.sampler import combinations, write_settings
from compress.sweep.space import Space
from compress.utils.errors import Problem, RecipeError
from compress.utils.messages import did_you_mean, join_words, one_line

MAX_COMBINATIONS = 200  # of a grid that are tried on the recipe, about 20 ms each


def try_values(path: str, overrides: Sequence[str], space: Space, root: Node) -> tuple[list[Recipe], list[Problem]]:
    """Try values of each parameter by themselves on the recipe; return the recipes, and what is wrong."""
    recipes, problems = list[Recipe](), list[Problem]()
    for override, place in _values(space, root):
        try:
            recipes.append(load_recipe(path, [*overrides, override]))
        except RecipeError as error:
            problems += [Problem(place, f"{one_line(override)}: {problem.message}") for problem in error.problems]
    return recipes, problems


def _values(space: Space, root: Node) -> Iterator[tuple[str, str]]:
    """Yield overrides with their place in the file of the space."""
    parameters = root.child("parameters")
    for key, parameter in space.parameters.items():
        node = (parameters.child(key) if parameters else None) or root
        for value in parameter.examples():
            yield write_override(key, value), node.place
    if space.fidelity:
        node = root.child("fidelity") or root
        for key, rung in itertools.product(space.fidelity.keys, space.fidelity.rungs):
            yield write_override(key, rung), node.place


def replaced_overrides(overrides: Sequence[str], space: Space) -> list[str]:
    """State which overrides of all trials a parameter replaces: its own key, or one below."""
    keys = [override.partition("=")[0].strip() for override in overrides]
    return [
        f"--set {one_line(key)}: parameter {one_line(parameter)} of the space replaces it; remove one of them"
        for key in keys
        for parameter in space.parameters
        if f"{key}.".startswith(f"{parameter}.")
    ]


def try_combinations(path: str, overrides: Sequence[str], space: Space) -> str | None:
    """Try the first combinations of a grid on the recipe; return how many it refuses, and why the first.

    Raises:
        RecipeError: it refuses all of them.
    """
    tried = dict.fromkeys(map(_written, itertools.islice(combinations(space), MAX_COMBINATIONS)))
    refused: list[tuple[str, RecipeError]] = []
    for settings in tried:
        try:
            load_recipe(path, [*overrides, *settings])
        except RecipeError as error:
            refused.append((" ".join(map(one_line, settings)), error))
    if not refused:
        return None
    first, raised = refused[0]
    if len(refused) == len(tried) and (space.size() or 0) <= MAX_COMBINATIONS:
        raise raised
    return (
        f"the recipe refuses {len(refused)} of the first {len(tried)} combinations, which are recorded and not made; "
        f"the first: {first}: {raised.problems[0].message}"
    )


def _written(settings: Mapping[str, str | int | float]) -> tuple[str, ...]:
    return tuple(write_settings(settings))


@dataclass(frozen=True)
class ExpectedFigures:
    """Which files and timings the runs of a recipe will have of a variant.

    Attributes:
        files: Names of its files; None where that depends on the machine.
        timed: Names of what is timed, its network in PyTorch included; None likewise.
        batches: Batch sizes.
    """

    files: frozenset[str] | None
    timed: frozenset[str] | None
    batches: frozenset[str]

    @classmethod
    def of(cls, recipe: Recipe, name: str) -> ExpectedFigures | None:
        """Derive them from the exports of a recipe; None where it makes no such variant."""
        variant = next((stage for stage in recipe.stages if stage.id == name), None)
        if not isinstance(variant, StageKind):
            return None
        exports = [stage for stage in recipe.stages if isinstance(stage, ExportStage) and name in stage.from_]
        batches = frozenset(map(str, recipe.measure.batches))
        if any(stage.auto for stage in exports):
            return cls(None, None, batches)
        files = frozenset(target.name for stage in exports for target in stage.targets(variant, stage.runtimes))
        eager = not variant.is_quantized and not is_onnx_network(recipe, name)
        return cls(files, files | {PYTORCH} if eager else files, batches)

    def lacks(self, metric: Metric) -> str | None:
        """Say why there will be no figure of a metric, and what to change."""
        if metric.batch is not None and metric.batch not in self.batches:
            known = join_words(sorted(self.batches, key=int), "and")
            return f"measure.batches has {known}; add {metric.batch}, or choose one of them"
        known_files = self.timed if metric.family == "latency" else self.files
        if metric.of is None or known_files is None or metric.of in known_files:
            return None
        hint = did_you_mean(metric.of, known_files) or ";"
        names = f"choose among {join_words(sorted(known_files))}" if known_files else "it has no files"
        return f"there will be no such file{hint} {names}, or add it to an export"


def objective_problems(
    recipe: Recipe, variants: Sequence[str], space: Space, root: Node, examples: Sequence[Recipe]
) -> Iterator[Problem]:
    """Yield the objectives that a variant will have no figure of, so that all of its trials would fail."""
    node = root.child("objectives")
    for index, name in enumerate(space.objectives):
        place = ((node.child(index) if node else None) or root).place
        for variant in variants:
            metric = parse_objective(name)
            if metric and (why := _lacks(metric, recipe, variant, examples)):
                yield Problem(place, f"objectives: {variant} will have no {one_line(name)}: {why}")


def budget_problems(
    recipe: Recipe, variants: Sequence[str], rules: Sequence[Rule], examples: Sequence[Recipe]
) -> list[str]:
    """State which budgets bound a figure that no variant will have, so that none could be shown to keep them."""
    problems = []
    for rule in rules:
        found = [_lacks(rule.metric, recipe, variant, examples) for variant in variants]
        if all(found):
            problems.append(f"--budget: {variants[0]} will have no {one_line(str(rule.metric))}: {found[0]}")
    return problems


def _lacks(metric: Metric, recipe: Recipe, variant: str, examples: Sequence[Recipe]) -> str | None:
    """Say why a variant will have no figure of a metric; None also where that depends on parameters."""
    expected = ExpectedFigures.of(recipe, variant)
    same = all(ExpectedFigures.of(each, variant) == expected for each in examples)
    return expected.lacks(metric) if expected and same else None
