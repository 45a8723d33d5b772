"""The space of a sweep: a YAML file of parameters, variants and objectives, validated as recipes are."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from compress.recipe.base import Identifier, Section, Share
from compress.recipe.compose import display_path
from compress.recipe.error_messages import Model, message_of
from compress.recipe.yaml_tree import MAX_BYTES, KeyPath, Node, read_yaml
from compress.sweep.objectives import VALIDATION, parse_objective
from compress.utils.errors import Problem, RecipeError, UsageError
from compress.utils.messages import choices, describe, did_you_mean, join_words, one_line
from compress.utils.resources import config_names, shipped

MAX_STEPS = 10_000  # values of a parameter with a step
DIGITS = 12  # of a number after the point: steps of 0.1 add up to 0.30000000000000004
ROUNDING = 1e-9  # of a number of steps


class Parameter(Section):
    """A parameter: `choices`, or the range from `low` to `high`, of integers where both are."""

    choices: list[Any] | None = Field(None, min_length=1, max_length=1000, description="values to choose among")
    low: int | float | None = Field(None, description="smallest value")
    high: int | float | None = Field(None, description="largest value")
    step: int | float | None = Field(None, gt=0, description="distance of two values; default: 1, or any number")
    log: bool = Field(False, description="sample on a log scale")

    @model_validator(mode="after")
    def _is_choices_or_range(self) -> Self:
        if (self.choices is None) == (self.low is None and self.high is None):
            raise ValueError("set either `choices`, or `low` and `high`")
        if self.choices is not None:
            if self.step is not None or self.log:
                raise ValueError("`step` and `log` are for a range; remove them, or set `low` and `high`")
            if repeated := _repeated(self.choices):
                raise ValueError(f"{describe(repeated[0])} is in `choices` twice; remove one")
            return self
        if self.low is None or self.high is None:
            raise ValueError(f"a range needs both ends; set `{'low' if self.low is None else 'high'}`")
        self._check_range(self.low, self.high)
        return self

    def _check_range(self, low: float, high: float) -> None:
        if low >= high:
            raise ValueError(f"`low` must be less than `high`, not {low} and {high}")
        if self.log and (low <= 0 or self.step is not None):
            raise ValueError("`log` needs a positive `low` and no `step`")
        if self.step is None:
            return
        if self.is_whole and not isinstance(self.step, int):
            raise ValueError(
                f"`step` of a range of integers must be an integer, not {self.step}; write `low` as {low}.0"
            )
        steps = (high - low) / self.step
        if abs(steps - round(steps)) > ROUNDING * steps:
            last = low + self.step * math.floor(steps)
            raise ValueError(f"`high` must be a whole number of steps above `low`; set it to {last:g}")
        if steps > MAX_STEPS:
            raise ValueError(f"has more than {MAX_STEPS:,} values; choose a larger `step`, or none")

    @property
    def is_whole(self) -> bool:
        """Whether it is a range of integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def values(self) -> list[Any] | None:
        """Return all values in order; None where it has any number of them."""
        if self.choices is not None:
            return self.choices
        assert self.low is not None and self.high is not None
        step = self.step or (1 if self.is_whole else None)
        if step is None or (self.high - self.low) / step > MAX_STEPS:
            return None
        count = round((self.high - self.low) / step) + 1
        values = [self.low + number * step for number in range(count)]
        return [round(value, DIGITS) if isinstance(value, float) else value for value in values]

    def examples(self) -> list[Any]:
        """Return the values that are tried before the sweep begins: all choices, or both ends of a range."""
        return self.choices if self.choices is not None else [self.low, self.high]


class Fidelity(Section):
    """Multi-fidelity by successive halving: hopeless trials are stopped at a rung."""

    keys: list[str] = Field(min_length=1, description="keys that a rung sets, such as stages.distilled.epochs")
    rungs: list[Annotated[int, Field(ge=1)]] = Field(min_length=2, description="values of the keys, rising")
    keep: Share = Field(1 / 3, description="share of the trials of a rung that go on to the next")

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.rungs != sorted(set(self.rungs)):
            raise ValueError(f"`rungs` must rise, not {self.rungs}")
        return self


class Space(Section):
    """What a sweep searches, for what, and how."""

    description: str = Field("", description="free text")
    parameters: dict[str, Parameter] = Field(min_length=1, description="parameters by their key, as `--set` takes it")
    variants: list[Identifier] = Field([], description="variants to choose among; default: the recipe's last")
    objectives: list[str] = Field(
        [VALIDATION, "macs"], min_length=1, description="validation accuracy and costs, the most important cost first"
    )
    sampler: Literal["tpe", "nsga2", "random", "grid"] = Field("tpe", description="how parameters are proposed")
    population: int = Field(20, ge=2, le=1000, description="trials of a generation of nsga2")
    fidelity: Fidelity | None = Field(None, description="train hopeless trials for fewer epochs")

    @field_validator("objectives")
    @classmethod
    def _are_known(cls, names: list[str]) -> list[str]:
        return [str(parse_objective(name) or name) for name in names]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if repeated := [*_repeated(self.objectives), *_repeated(self.variants)]:
            raise ValueError(f"{describe(repeated[0])} is listed twice; remove one")
        if VALIDATION not in self.objectives:
            raise ValueError(f"objectives lack {VALIDATION}, without which the smallest network wins; add it")
        if self.sampler == "grid" and (
            continuous := [key for key, each in self.parameters.items() if not each.values()]
        ):
            raise ValueError(f"a grid needs a `step` or `choices` for {join_words(map(one_line, continuous), 'and')}")
        if self.fidelity and (twice := [key for key in self.fidelity.keys if key in self.parameters]):
            raise ValueError(f"{one_line(twice[0])} is both a parameter and a key of `fidelity`; remove one")
        return self

    def costs(self) -> list[str]:
        """Return the objectives that are costs, the most important first."""
        return [name for name in self.objectives if name != VALIDATION]

    def size(self) -> int | None:
        """Return the number of combinations; None where there is any number of them."""
        counts = [len(values) if (values := each.values()) else None for each in self.parameters.values()]
        known = [count for count in (*counts, len(self.variants) or 1) if count]
        return math.prod(known) if None not in counts else None


def _repeated(values: Sequence[Any]) -> list[Any]:
    """Return the values that are listed again."""
    texts = [json.dumps(value, sort_keys=True) for value in values]
    return [value for number, value in enumerate(values) if texts[number] in texts[:number]]


def find_space(name: str | Path) -> Path:
    """Return the file of a space: the one that is named, or the shipped one of that name."""
    given = Path(name)
    is_shipped = str(name) in config_names("spaces") and not given.exists()
    return shipped("configs") / "spaces" / f"{name}.yaml" if is_shipped else given


def read_space(path: Path) -> tuple[Space, Node]:
    """Read the file of a space; return it with its tree, whose nodes have the lines.

    Raises:
        RecipeError: it is invalid; it holds all problems.
        UsageError: it cannot be read.
    """
    try:
        text = path.read_bytes()[: MAX_BYTES + 1].decode("utf-8-sig")
    except OSError as error:
        why = f"cannot be read ({error.strerror})"
        raise UsageError(
            f"{path}: the space {why}{choices(str(path), config_names('spaces'))}, or a YAML file"
        ) from error
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not UTF-8 text") from None
    return parse_space(text, display_path(path))


def parse_space(text: str, file: str = "<space>") -> tuple[Space, Node]:
    """Read a space from text; `file` names it in messages. Raises a `RecipeError` with all problems."""
    problems: list[Problem] = []
    root = read_yaml(text, file, problems)
    if not isinstance(root.value, dict):
        raise RecipeError([*problems, Problem(f"{file}:1", "must be a section of keys and values, with `parameters`")])
    _expand(root)
    try:
        space = Space.model_validate_json(json.dumps(root.plain()), strict=True)
    except ValidationError as error:
        raise RecipeError(list(dict.fromkeys((*problems, *_problems(error, root))))) from None
    if problems:
        raise RecipeError(problems)
    return space, root


def _expand(root: Node) -> None:
    """Replace a list in the place of a parameter by a section with `choices`."""
    parameters = root.child("parameters")
    if parameters and isinstance(parameters.value, dict):
        for key, node in parameters.value.items():
            if isinstance(node.value, list):
                parameters.value[key] = Node({"choices": Node(node.value, node.place)}, node.place)


def _problems(error: ValidationError, root: Node) -> Iterator[Problem]:
    unions: set[KeyPath] = set()
    for details in error.errors(include_url=False, include_input=False):
        path, node, owner = _locate(root, details["loc"])
        where = one_line(".".join(map(str, path))) or "the space"
        if details["type"] == "missing":
            yield Problem(node.place, f"{where}: is missing")
        elif len(path) < len(details["loc"]):  # an alternative of `int | float`
            if path not in unions:
                unions.add(path)
                yield Problem(node.place, f"{where}: must be a number, not {describe(node.value)}")
        else:
            yield Problem(node.place, f"{where}: {message_of(details, node, owner, path)}")


def _locate(root: Node, location: Sequence[str | int]) -> tuple[KeyPath, Node, Model]:
    """Return the part of pydantic's location that is in the file, its node, and the section that its last key is of."""
    node, path = root, []
    for part in location:
        child = node.child(part)
        if child is None and part not in ("parameters", *Parameter.model_fields, *Fidelity.model_fields):
            break
        node = child or node
        path.append(part)
    owners: dict[str, Model] = {"parameters": Parameter, "fidelity": Fidelity}
    deep = {"parameters": 3, "fidelity": 2}
    first = str(path[0]) if path else ""
    owner = owners[first] if len(path) >= deep.get(first, 99) else Space
    return tuple(path), node, owner


def check_variants(space: Space, root: Node, known: Sequence[str]) -> Iterator[Problem]:
    """Yield the variants of a space that the recipe, with the variants `known`, does not make."""
    node = root.child("variants")
    for index, name in enumerate(space.variants):
        if name not in known:
            place = ((node.child(index) if node else None) or root).place
            hint = did_you_mean(name, known) or ";"
            yield Problem(place, f"variants: no stage makes {describe(name)}{hint} allowed: {join_words(known)}")
