"""A sweep as it was asked for: recipe, space, limits and budget, checked before anything is trained."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path

from compress.gate.rules import Rule, parse_rule
from compress.pipeline.runner import Run
from compress.pipeline.runner import run as run_recipe
from compress.recipe.load import load_recipe
from compress.recipe.overrides import write_override
from compress.recipe.schema import Recipe
from compress.store.origin import url_of_runs
from compress.sweep.checks import (
    budget_problems,
    objective_problems,
    replaced_overrides,
    try_combinations,
    try_values,
)
from compress.sweep.folder import SweepFolder, digest
from compress.sweep.objectives import VALIDATION, parse_budget
from compress.sweep.records import SweepFile, Trial
from compress.sweep.sampler import SamplerInput, require_sampler
from compress.sweep.space import Space, check_variants, find_space, read_space
from compress.utils.console import say
from compress.utils.errors import RecipeError, SeveralErrors, UsageError
from compress.utils.messages import one_line

Make = Callable[[Recipe, Path, str, str], Run | None]
"""Makes a run of a recipe, from the folder of all runs, the command, and the address of the sweep's page."""


@dataclass(frozen=True)
class Limits:
    """When no further trial is begun: number of trials, hours of this worker, training MACs of all trials."""

    trials: int | None = None
    hours: float | None = None
    macs: int | None = None


@dataclass(frozen=True)
class Job:
    """A sweep, as one worker sees it.

    Attributes:
        path: Recipe as it was named.
        overrides: Overrides of all trials.
        recipe: The recipe with these.
        space: The space.
        folder: Folder of the sweep.
        limits: When no further trial is begun.
        budget: Largest figures that the answer may have.
        tolerance: Loss of accuracy that the answer may have against the reference; None where it was not given.
        make: Makes the runs.
        plugins: Plugins of the command line, for commands that make a trial again.
    """

    path: str
    overrides: tuple[str, ...]
    recipe: Recipe
    space: Space
    folder: SweepFolder
    limits: Limits = Limits()
    budget: tuple[Rule, ...] = ()
    tolerance: float | None = None
    make: Make = field(default=lambda *about: make_run(*about))
    plugins: tuple[str, ...] = ()

    @property
    def sampler_input(self) -> SamplerInput:
        """What the sampler proposes for."""
        return SamplerInput(self.space, default_variant(self.recipe, self.space), self.recipe.seed, self.constraints)

    def constraints(self, trial: Trial) -> Mapping[str, float]:
        """Return by how much a trial misses each budget, and the tolerance on validation; up to 0 it keeps it."""
        figures = trial.figures
        missed = {
            str(rule): figures[str(rule.metric)] / rule.bound - 1
            for rule in self.budget
            if rule.bound and str(rule.metric) in figures
        }
        if self.tolerance is not None and trial.reference_validation is not None:
            missed["tolerance"] = trial.reference_validation - self.tolerance - figures[VALIDATION]
        return missed

    def rung_overrides(self, value: int | None) -> list[str]:
        """Return the overrides that set the keys of fidelity to the value of a rung."""
        fidelity = self.space.fidelity
        return [write_override(key, value) for key in fidelity.keys] if fidelity and value is not None else []

    def command(self, overrides: Sequence[str]) -> str:
        """Write the command that makes a run with these overrides besides those of all trials."""
        changes = [part for override in (*self.overrides, *overrides) for part in ("--set", override)]
        plugins = [part for plugin in self.plugins for part in ("--plugin", plugin)]
        runs = url_of_runs(self.folder.runs) or str(self.folder.runs)  # a folder that stands for a URL is a cache
        return shlex.join(["compress-model", "run", self.path, *changes, "--runs", runs, *plugins])

    def command_of(self, trial: Trial) -> str:
        """Write the command that makes the last run of a trial again."""
        rung = trial.rungs[-1].value if trial.rungs else None
        return self.command([*trial.overrides, *self.rung_overrides(rung)])

    def about(self) -> SweepFile:
        """Describe the sweep, for its folder."""
        return SweepFile(
            recipe=self.path,
            overrides=self.overrides,
            recipe_sha256=digest(self.recipe.resolved()),
            space_sha256=digest(self.space.model_dump(mode="json", exclude={"description"})),
        )


def make_run(
    recipe: Recipe, runs: Path, command: str, page: str, *, dry_run_first: bool = True, engine: str = "local"
) -> Run | None:
    """Run a recipe, after a dry run unless there is to be none."""
    return run_recipe(recipe, runs, dry_run_first=dry_run_first, command=command, sweep=page, engine=engine)


def read_job(
    path: str,
    space_file: Path,
    runs: Path,
    *,
    overrides: Sequence[str] = (),
    name: str | None = None,
    limits: Limits = Limits(),
    budget: str | None = None,
    tolerance: float | None = None,
    make: Make = make_run,
    plugins: Sequence[str] = (),
) -> Job:
    """Read recipe and space and check them together.

    Raises:
        RecipeError: the recipe, the space or a value of a parameter is invalid; it holds all problems.
        UsageError: an option is wrong.
        CompressError: the sampler's package is missing.
    """
    recipe = load_recipe(path, overrides)
    space_file = find_space(space_file)
    space, root = read_space(space_file)
    variants = space.variants or [default_variant(recipe, space)]
    examples, wrong = try_values(path, overrides, space, root)
    problems = [*check_variants(space, root, variants_of(recipe)), *wrong]
    if problems := problems or list(objective_problems(recipe, variants, space, root, examples)):
        raise RecipeError(problems)
    if recipe.trainer.several_processes:
        raise UsageError(
            "a sweep makes each trial on one device; set `trainer.devices: 1` and start a worker per device"
        )
    if tolerance is not None and not 0 <= tolerance < 1:
        raise UsageError(f"--tolerance must be a fraction in [0, 1), not {tolerance:g}; write 0.01 for one point")
    if limits.hours is not None and not (isfinite(limits.hours) and limits.hours >= 0):
        raise UsageError(f"--hours must be a number of hours, not {limits.hours:g}; write e.g. 1.5")
    if limits == Limits() and space.sampler != "grid":
        raise UsageError("nothing ends the sweep; set --trials, --hours or --macs")
    rules = tuple(parse_budget(budget)) if budget is not None else ()
    if lines := [*replaced_overrides(overrides, space), *budget_problems(recipe, variants, rules, examples)]:
        raise SeveralErrors(lines)
    require_sampler(space)
    if space.sampler == "grid" and (refused := try_combinations(path, overrides, space)):
        say(refused)
    folder = SweepFolder(runs, _name(name, recipe.name, space_file.stem))
    return Job(path, tuple(overrides), recipe, space, folder, limits, rules, tolerance, make, tuple(plugins))


def parse_macs(text: str) -> int:
    """Parse training MACs: 1e15, 2P or 500T. Raises a `UsageError`."""
    try:
        value = float(text)
    except ValueError:
        try:
            value = parse_rule(f"training_macs<={text}").bound
        except ValueError:
            raise UsageError(
                f"--macs: '{one_line(text)}' is not a number of MACs; write e.g. 2e15, 2P or 500T"
            ) from None
    if not 0 < value < float("inf"):
        raise UsageError(f"--macs must be positive, not {one_line(text)}")
    return int(value)


def variants_of(recipe: Recipe) -> list[str]:
    """Return the ids of the stages that make a variant."""
    return [stage.id for stage in recipe.stages if stage.makes]


def default_variant(recipe: Recipe, space: Space) -> str:
    """Return the variant that trials are about where there is no choice: the one that is named, or the last."""
    return space.variants[0] if space.variants else variants_of(recipe)[-1]


def _name(name: str | None, recipe: str, space: str) -> str:
    """Return the name of the sweep, by default those of the recipe and, if it is another, of the space's file."""
    chosen = name if name is not None else recipe if space == recipe else f"{recipe}-{space}"
    allowed = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
    if not chosen or len(chosen) > 64 or not set(chosen) <= allowed or not chosen[0].isalnum():
        raise UsageError(
            f"'{one_line(chosen)}' is not a name of a folder; set --name to 1 to 64 letters, digits, '_', '.' or '-'"
        )
    return chosen
