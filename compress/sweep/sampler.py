"""Proposals of settings, by Optuna's ask and tell.

A proposal depends on the trials so far, the recipe's seed and its own number alone: the study is built anew from the
records for each, so that a restart, or another worker, proposes what this one would have.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compress.recipe.overrides import write_override
from compress.sweep.objectives import VALIDATION
from compress.sweep.records import Proposal, Trial
from compress.sweep.space import DIGITS, Parameter, Space
from compress.utils.errors import CompressError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial

VARIANT = "variant"
"""Name of the choice of a variant among the parameters."""

INSTALL = "sampler {} needs Optuna: pip install 'compress-model[sweep]', or set `sampler: grid`"
MAX_LISTED = 100_000  # combinations of a space that are listed to find one that was not tried

Settings = Mapping[str, str | int | float]
Constraints = Callable[[Trial], Mapping[str, float]]


@dataclass(frozen=True)
class SamplerInput:
    """What a sampler proposes for.

    Attributes:
        space: The space.
        variant: The variant, where there is no choice.
        seed: Seed of the recipe.
        constraints: Constraints of a trial by name, each kept where it is at most 0.
    """

    space: Space
    variant: str
    seed: int
    constraints: Constraints


def require_sampler(space: Space) -> None:
    """Check that the package of a sampler is installed. Raises a `CompressError` with the command that installs it."""
    if space.sampler == "grid":
        return
    try:
        import optuna
    except ImportError as error:
        raise CompressError(INSTALL.format(space.sampler)) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def propose(
    sampler_input: SamplerInput, number: int, ended: Sequence[Trial], begun: Sequence[Proposal]
) -> Proposal | None:
    """Propose the settings of trial `number`, which no other trial has; None where all combinations were tried.

    Args:
        sampler_input: The space and its constraints.
        number: Number of the trial.
        ended: Trials that ended.
        begun: Trials that others make.
    """
    space = sampler_input.space
    if space.sampler == "grid":
        settings = next(itertools.islice(combinations(space), number, None), None)
        return None if settings is None else _proposal(sampler_input, number, settings, {})
    taken = {_identity(each.settings) for each in (*ended, *begun)}
    settings, stored = _ask(sampler_input, number, ended, begun)
    if _identity(settings) in taken:
        rest = _untried(space, taken)
        if rest is not None:
            if not rest:
                return None
            settings = random.Random(_seed(sampler_input, number)).choice(rest)
    return _proposal(sampler_input, number, settings, stored)


def combinations(space: Space) -> Iterator[dict[str, str | int | float]]:
    """Yield all settings of a space without a continuous parameter, the last parameter changing first."""
    names = list(space.parameters)
    values = [[_setting(value) for value in each.values() or ()] for each in space.parameters.values()]
    if len(space.variants) > 1:
        names, values = [*names, VARIANT], [*values, list(space.variants)]
    for combination in itertools.product(*values):
        yield dict(zip(names, combination, strict=True))


def write_settings(settings: Settings) -> list[str]:
    """Write settings as `--set` takes them: a section before the keys in it, which it would replace."""
    keys = sorted((key for key in settings if key != VARIANT), key=lambda key: key.count("."))
    return [f"{key}={settings[key]}" for key in keys]


def _setting(value: Any) -> str | int | float:
    """Return a value as trials store it: a number, or the text that `--set` takes."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else write_override("", value)[1:]


def _identity(settings: Settings) -> tuple[tuple[str, str | int | float], ...]:
    return tuple(sorted(settings.items()))


def _untried(space: Space, taken: set[tuple[tuple[str, str | int | float], ...]]) -> list[dict[str, Any]] | None:
    """List the combinations that no trial has; None where the space has too many."""
    size = space.size()
    if size is None or size > MAX_LISTED:
        return None
    return [settings for settings in combinations(space) if _identity(settings) not in taken]


def _proposal(sampler_input: SamplerInput, number: int, settings: Settings, stored: Mapping[str, Any]) -> Proposal:
    variant = str(settings.get(VARIANT, sampler_input.variant))
    return Proposal(
        number=number,
        settings=dict(settings),
        variant=variant,
        overrides=tuple(write_settings(settings)),
        sampler=dict(stored),
    )


def _ask(
    sampler_input: SamplerInput, number: int, ended: Sequence[Trial], begun: Sequence[Proposal]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ask Optuna for settings; also return what its sampler stored about the trial."""
    import optuna

    space = sampler_input.space
    directions = ["maximize" if name == VALIDATION else "minimize" for name in space.objectives]
    study = optuna.create_study(directions=directions, sampler=_sampler(space, _seed(sampler_input, number)))
    distributions = {key: _distribution(each) for key, each in space.parameters.items()}
    if len(space.variants) > 1:
        distributions[VARIANT] = optuna.distributions.CategoricalDistribution(space.variants)
    for trial in sorted((*ended, *begun), key=lambda each: each.number):
        study.add_trial(_to_optuna(sampler_input, trial, distributions))
    asked = study.ask(distributions)
    settings = {key: _rounded(space, key, value) for key, value in asked.params.items()}
    return settings, _sampler_attributes(study)


def _rounded(space: Space, key: str, value: Any) -> Any:
    """Round a number of a range with a step, which may be 0.30000000000000004."""
    parameter = space.parameters.get(key)
    return round(value, DIGITS) if parameter and parameter.step and isinstance(value, float) else value


def _to_optuna(
    sampler_input: SamplerInput, trial: Proposal, distributions: Mapping[str, BaseDistribution]
) -> FrozenTrial:
    """Convert a trial for Optuna; a stopped one has ended with the figures of its last rung, the lower the worse."""
    from optuna.trial import TrialState, create_trial

    about: dict[str, Any] = {
        "params": trial.settings,
        "distributions": dict(distributions),
        "system_attrs": dict(trial.sampler),  # Optuna adds the constraints to it
    }
    if not isinstance(trial, Trial):
        return create_trial(state=TrialState.RUNNING, **about)
    if trial.state in ("failed", "infeasible"):
        return create_trial(state=TrialState.FAIL, **about)
    values = [trial.figures[name] for name in sampler_input.space.objectives]
    constraints = dict(sampler_input.constraints(trial)) or None
    return create_trial(state=TrialState.COMPLETE, values=values, constraints=constraints, **about)


def _sampler_attributes(study: Study) -> dict[str, Any]:
    """Return what the sampler stored about the last trial, as far as JSON can hold it."""
    plain = (str, int, float, list)
    return {key: value for key, value in study.trials[-1].system_attrs.items() if isinstance(value, plain)}


def _sampler(space: Space, seed: int) -> BaseSampler:
    from optuna import samplers

    makers: dict[str, Callable[[], BaseSampler]] = {
        "tpe": lambda: samplers.TPESampler(seed=seed),
        "nsga2": lambda: samplers.NSGAIISampler(seed=seed, population_size=space.population),
        "random": lambda: samplers.RandomSampler(seed=seed),
    }
    return makers[space.sampler]()


def _distribution(parameter: Parameter) -> BaseDistribution:
    from optuna import distributions

    if parameter.choices is not None:
        return distributions.CategoricalDistribution([_setting(value) for value in parameter.choices])
    assert parameter.low is not None and parameter.high is not None
    if parameter.is_whole:
        step = int(parameter.step or 1)
        return distributions.IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log, step=step)
    return distributions.FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def _seed(sampler_input: SamplerInput, number: int) -> int:
    text = f"{sampler_input.seed}/{number}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4])
