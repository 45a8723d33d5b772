"""Recipes from YAML: composed from `configs/`, changed by `--set`, checked as a whole, every mistake with its line."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from compress.recipe.compose import Composer, fill_in, shown
from compress.recipe.error_messages import explain, show
from compress.recipe.graph import graph_problems
from compress.recipe.overrides import apply_overrides, read_overrides
from compress.recipe.schema import Recipe, recipe_model
from compress.recipe.validate import section_problems
from compress.recipe.yaml_tree import MAX_BYTES, Node, read_yaml
from compress.utils.checksums import refuse_changed
from compress.utils.errors import Problem, RecipeError, UsageError
from compress.utils.messages import clean, did_you_mean, found
from compress.utils.resources import shipped

MAX_PROBLEMS = 100


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: A file, or the bare name of a shipped recipe, such as `quickstart`.
        overrides: `a.b.c=value` texts, applied in their order.

    Raises:
        RecipeError: When the recipe or an override is wrong; it holds all problems.
        UsageError: When there is no such file, or it cannot be read.
    """
    file = _find(path)
    refuse_changed(file, "to run a changed recipe, copy it out of the run")
    return parse_recipe(_read(file), overrides, shown(file))


def parse_recipe(text: str, overrides: Sequence[str] = (), file: str = "<recipe>") -> Recipe:
    """Read a recipe from text; `file` names it in messages, and the recipe itself where it gives no name.

    Raises:
        RecipeError: When the recipe or an override is wrong; it holds all problems.
    """
    problems: list[Problem] = []
    changes = read_overrides(overrides, problems)
    try:
        root = read_yaml(text, file, problems)
    except RecipeError as error:
        raise RecipeError([*problems, *error.problems]) from None
    if not isinstance(root.value, dict):
        message = "is empty" if root.value is None else f"must be a section of keys and values, not {found(root.value)}"
        raise RecipeError([*problems, Problem(f"{file}:1", message)])
    composer = Composer()
    apply_overrides(root, changes, composer, problems)
    fill_in(root, _name(file))
    composer.compose(root)
    return _checked(root, composer, problems, file)


def _checked(root: Node, composer: Composer, problems: list[Problem], file: str) -> Recipe:
    """The recipe that a composed tree stands for, or all that is wrong with it."""
    problems += [Problem(p.where, f"{show(root, path)}: {p.message}") for path, p in composer.problems.items()]
    # As JSON, because strictness (no 1 for true, no "5" for 5) then still takes a list for a tuple.
    text = json.dumps(root.plain())
    recipe = None
    further: Iterator[Problem] = iter(())
    try:
        recipe = recipe_model().model_validate_json(text, strict=True, by_alias=True, by_name=False)
        further = section_problems(recipe, root)
    except ValidationError as error:
        further = explain(error, root, composer.problems)
    problems += itertools.islice(itertools.chain(further, graph_problems(root)), MAX_PROBLEMS + 1)
    if recipe is None or problems:
        raise RecipeError(_sorted(problems, file))
    return recipe


def _sorted(problems: list[Problem], file: str) -> list[Problem]:
    """By line, the recipe's own first; each once, and no more than a person reads."""

    def order(problem: Problem) -> tuple[bool, str, int]:
        name, _, line = problem.where.rpartition(":")
        return name != file, name, int(line) if line.isdecimal() else 0

    once = sorted(dict.fromkeys(problems), key=order)
    if len(once) > MAX_PROBLEMS:
        return [*once[:MAX_PROBLEMS], Problem(file, f"has more than {MAX_PROBLEMS} problems; the others come after")]
    return once


def _name(file: str) -> str:
    """A recipe's name out of its file's."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(file).stem).strip("-_.")[:64] or "recipe"


def _find(path: str | Path) -> Path:
    given = Path(path)
    bare = not (given.suffix or given.is_absolute() or ".." in given.parts or str(path) != str(given))
    try:
        if given.is_file():
            return given
        if bare and (file := shipped("recipes") / f"{given}.yaml").is_file():
            return file
        if given.exists():
            kind = "a folder" if given.is_dir() else "not a file"
            raise UsageError(f"{clean(str(path))}: is {kind}; a recipe is a YAML file")
        raise UsageError(_missing(given))
    except (OSError, ValueError) as error:  # a name that is too long, or holds a null character
        raise UsageError(f"{clean(str(path))}: no such recipe ({_reason(error)})") from None


def _missing(given: Path) -> str:
    folder = shipped("recipes")
    names = sorted(str(file.relative_to(folder).with_suffix("")) for file in folder.rglob("*.yaml"))
    neighbours = {file.name: str(file) for file in given.parent.glob("*.y*ml")} if given.parent.is_dir() else {}
    options = [*names, *neighbours]
    hint = did_you_mean(str(given), options) or did_you_mean(given.name, options) or did_you_mean(given.stem, options)
    there = f" shipped recipes: {', '.join(names)}" if names else ""
    return f"{clean(str(given))}: no such recipe{hint or ';'}{there}".rstrip(";")


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UsageError(f"{shown(file)}: is larger than {MAX_BYTES // 2**20} MiB, which no recipe is")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{shown(file)}:{line}: is not UTF-8 text") from None
    except OSError as error:
        raise UsageError(f"{shown(file)}: cannot be read ({_reason(error)})") from None


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
