"""Load recipes: compose from `configs/`, apply `--set`, validate, and report every problem with its line."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from compress.recipe.compose import Composer, display_path, fill_defaults
from compress.recipe.ensembles import expand_ensembles
from compress.recipe.error_messages import describe_errors, format_path
from compress.recipe.graph import graph_problems
from compress.recipe.matches import add_matches
from compress.recipe.overrides import apply_overrides, read_overrides
from compress.recipe.schema import Recipe, recipe_model
from compress.recipe.validate import section_problems
from compress.recipe.yaml_tree import MAX_BYTES, Node, read_yaml
from compress.utils.checksums import require_unchanged
from compress.utils.errors import Problem, RecipeError, UsageError
from compress.utils.messages import describe, did_you_mean, one_line
from compress.utils.resources import shipped

MAX_PROBLEMS = 100


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Load a recipe from a file, or by the name of a shipped one; overrides are `a.b.c=value` texts, applied in order.

    Raises:
        RecipeError: the recipe or an override is invalid; it holds all problems.
        UsageError: the file is missing or cannot be read.
    """
    file = _find_recipe(path)
    require_unchanged(file, "to run a modified recipe, copy it out of the run folder")
    return parse_recipe(_read(file), overrides, display_path(file))


def parse_recipe(text: str, overrides: Sequence[str] = (), file: str = "<recipe>") -> Recipe:
    """Load a recipe from text; `file` names it in messages, and is the default of its name.

    Raises:
        RecipeError: the recipe or an override is invalid; it holds all problems.
    """
    problems: list[Problem] = []
    changes = read_overrides(overrides, problems)
    try:
        root = read_yaml(text, file, problems)
    except RecipeError as error:
        raise RecipeError([*problems, *error.problems]) from None
    if not isinstance(root.value, dict):
        message = (
            "is empty" if root.value is None else f"must be a section of keys and values, not {describe(root.value)}"
        )
        raise RecipeError([*problems, Problem(f"{file}:1", message)])
    composer = Composer()
    apply_overrides(root, changes, composer, problems)
    fill_defaults(root, _default_name(file))
    composer.compose(root)
    expand_ensembles(root, problems)
    return _validated(root, composer, problems, file)


def _validated(root: Node, composer: Composer, problems: list[Problem], file: str) -> Recipe:
    """Return the recipe of a composed tree, or raise all of its problems."""
    problems += [Problem(p.where, f"{format_path(root, path)}: {p.message}") for path, p in composer.problems.items()]
    # Strict mode (no 1 for true, no "5" for 5) accepts a list for a tuple only from JSON.
    text = json.dumps(root.plain())
    recipe = None
    further: Iterator[Problem] = iter(())
    try:
        recipe = recipe_model().model_validate_json(text, strict=True, by_alias=True, by_name=False)
        further = section_problems(recipe, root)
    except ValidationError as error:
        further = describe_errors(error, root, composer.problems)
    problems += itertools.islice(itertools.chain(further, graph_problems(root)), MAX_PROBLEMS + 1)
    if recipe is None or problems:
        raise RecipeError(_sorted(problems, file))
    return add_matches(recipe)


def _sorted(problems: list[Problem], file: str) -> list[Problem]:
    """Sort by line, the recipe's own first; drop duplicates, and all after the first `MAX_PROBLEMS`."""

    def order(problem: Problem) -> tuple[bool, str, int]:
        name, _, line = problem.where.rpartition(":")
        return name != file, name, int(line) if line.isdecimal() else 0

    unique = sorted(dict.fromkeys(problems), key=order)
    if len(unique) > MAX_PROBLEMS:
        return [*unique[:MAX_PROBLEMS], Problem(file, f"more than {MAX_PROBLEMS} problems; fix these to see the rest")]
    return unique


def _default_name(file: str) -> str:
    """Derive the name of a recipe from that of its file."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(file).stem).strip("-_.")[:64] or "recipe"


def _find_recipe(path: str | Path) -> Path:
    given = Path(path)
    bare = not (given.suffix or given.is_absolute() or ".." in given.parts or str(path) != str(given))
    try:
        if given.is_file():
            return given
        if bare and (file := shipped("recipes") / f"{given}.yaml").is_file():
            return file
        if given.exists():
            kind = "a folder" if given.is_dir() else "not a file"
            raise UsageError(f"{one_line(str(path))}: is {kind}; expected a YAML file")
        raise UsageError(_not_found(given))
    except (OSError, ValueError) as error:  # a name that is too long, or contains a null character
        raise UsageError(f"{one_line(str(path))}: recipe not found ({_reason(error)})") from None


def _not_found(given: Path) -> str:
    folder = shipped("recipes")
    names = sorted(str(file.relative_to(folder).with_suffix("")) for file in folder.rglob("*.yaml"))
    neighbours = {file.name: str(file) for file in given.parent.glob("*.y*ml")} if given.parent.is_dir() else {}
    options = [*names, *neighbours]
    hint = did_you_mean(str(given), options) or did_you_mean(given.name, options) or did_you_mean(given.stem, options)
    shipped_names = f" shipped recipes: {', '.join(names)}" if names else ""
    return f"{one_line(str(given))}: recipe not found{hint or ';'}{shipped_names}".rstrip(";")


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UsageError(f"{display_path(file)}: larger than {MAX_BYTES // 2**20} MiB, the limit of a recipe")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{display_path(file)}:{line}: is not UTF-8 text") from None
    except OSError as error:
        raise UsageError(f"{display_path(file)}: cannot be read ({_reason(error)})") from None


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
