"""pydantic's errors in plain words, with the file and line of what they are about."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from compress.recipe.base import Section
from compress.recipe.schema import Recipe
from compress.recipe.stage import StageSection, stage_sections
from compress.recipe.yaml_tree import Node
from compress.utils.errors import Problem
from compress.utils.messages import clean, did_you_mean, found, listed
from compress.utils.resources import config_names

Path_ = tuple[str | int, ...]
Model = type[Section]

_MUST_BE = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a section of keys and values",
    "model_type": "a section of keys and values",
    "model_attributes_type": "a section of keys and values",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "string_too_short": "at least {min_length} characters long",
    "string_pattern_mismatch": "1 to 64 letters, digits, '_', '.' or '-', a letter or digit first",
}
_BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number")
_OF_UNION = {"int": "a whole number", "list[int]": "a list of whole numbers", "literal['auto']": "'auto'"}


def explain(error: ValidationError, root: Node, told: Collection[Path_] = ()) -> Iterator[Problem]:
    """Problems out of what pydantic says about a recipe.

    Args:
        error: What pydantic says.
        root: The recipe with its places.
        told: Paths that have a problem already: nothing more is said about what is there.
    """
    unions: dict[Path_, Node] = {}
    for details in error.errors(include_url=False, include_input=False):
        path, owner = _trace(details["loc"])
        node, walked = _walk(root, path)
        if any(path[: len(known)] == known for known in told):
            continue
        if details["type"] == "missing":
            yield Problem(node.place, f"{show(root, path)}: is missing{_needed(owner, path)}")
        elif len(walked) < len(path) and details["type"] in _BOUNDS:  # a number that stands for a section
            if walked not in unions:
                unions[walked] = node
                yield Problem(node.place, f"{show(root, walked)}: {_sentence(details, node, owner, walked)}")
        elif len(walked) < len(path):  # pydantic names the alternatives of `int | list[int]` as if they were keys
            if walked not in unions:
                unions[walked] = node
                expected = listed(_alternatives(error, walked))
                yield Problem(node.place, f"{show(root, walked)}: must be {expected}, not {found(node.value)}")
        elif details["type"].startswith("union_tag"):
            yield _tag(details, root, node, path)
        else:
            yield Problem(node.place, f"{show(root, path)}: {_sentence(details, node, owner, path)}")


def show(root: Node, path: Path_) -> str:
    """A path as `--set` takes it: `stages.distilled.epochs`."""
    shown, node = [], root
    for part in path:
        node = node.child(part) or Node(None, "")
        name = node.child("id") if isinstance(part, int) else None
        shown.append(clean(str(name.value)) if name and isinstance(name.value, str) and name.value else str(part))
    return clean(".".join(shown)) if shown else "the recipe"


def _walk(root: Node, path: Path_) -> tuple[Node, Path_]:
    """The node at a path, or the nearest above it, with the path so far."""
    node = root
    for depth, part in enumerate(path):
        child = node.child(part)
        if child is None:
            return node, path[:depth]
        node = child
    return node, path


def _trace(location: Sequence[str | int]) -> tuple[Path_, Model | None]:
    """A location without the tags that pydantic puts in for discriminated unions, and the section of its last key."""
    path: list[str | int] = []
    models: list[Model] = [Recipe]
    owner: Model | None = Recipe
    for part in location:
        if isinstance(part, str) and len(models) > 1:
            models = [model for model in models if part in _tags(model)]
            owner = models[0] if models else None
            continue
        path.append(part)
        if isinstance(part, str):
            owner = models[0] if models else None
            models = _sections(_fields(owner).get(part)) if owner else []
    return tuple(path), owner


def _fields(model: Model) -> dict[str, Any]:
    """Annotations of a section's keys, as recipes write them."""
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _sections(annotation: Any) -> list[Model]:
    if annotation is StageSection:
        return list(stage_sections().values())
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _sections(argument)]


def _tags(model: Model) -> tuple[Any, ...]:
    field = model.model_fields.get("kind") or model.model_fields.get("source")
    return get_args(field.annotation) if field else ()


def _alternatives(error: ValidationError, walked: Path_) -> list[str]:
    """What a union allows, from the labels that follow its path."""
    labels: dict[str, None] = {}
    for details in error.errors(include_url=False, include_input=False):
        path, _ = _trace(details["loc"])
        if path[: len(walked)] == walked and len(path) > len(walked):
            labels[_OF_UNION.get(str(path[len(walked)]), str(path[len(walked)]))] = None
    return list(labels)


def _needed(owner: Model | None, path: Path_) -> str:
    field = owner.model_fields.get("from_" if path[-1] == "from" else str(path[-1])) if owner else None
    return f": {field.description}" if field and field.description else ""


def _tag(details: ErrorDetails, root: Node, node: Node, path: Path_) -> Problem:
    """A section whose `kind` or `source` is missing or unknown."""
    models = _sections(Recipe.model_fields[str(path[0])].annotation)
    if path[-1] == "teacher":
        models = _sections(_fields(next(model for model in models if "teacher" in _tags(model)))["teacher"])
    key = "kind" if path[0] == "stages" and path[-1] != "teacher" else "source"
    allowed = [tag for model in models for tag in _tags(model)]
    tag = node.child(key)
    if tag is None:
        configs = {"data": "data", "teacher": "teachers"}.get(str(path[-1]))
        use = f"; or use: {listed(config_names(configs))}" if configs else ""
        return Problem(node.place, f"{show(root, (*path, key))}: is missing; allowed: {listed(allowed)}{use}")
    hint = did_you_mean(tag.value, allowed) if isinstance(tag.value, str) else ""
    message = f"unknown {key} {found(tag.value)}{hint or ';'} allowed: {listed(allowed)}"
    return Problem(tag.place, f"{show(root, (*path, key))}: {message}")


def _sentence(details: ErrorDetails, node: Node, owner: Model | None, path: Path_) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(str(path[-1]), owner)
    if kind == "value_error":
        return str(context["error"])
    if kind in ("too_short", "too_long"):
        bound = "min_length" if kind == "too_short" else "max_length"
        few = f"{context[bound]} or {'more' if kind == 'too_short' else 'fewer'}"
        return f"must have {few} entries, not {len(node.value) if isinstance(node.value, list) else 'more'}"
    if kind not in _MUST_BE:
        return details["msg"]
    bounds = {key: int(value) if value in (0.0, 1.0) else value for key, value in context.items()}
    return f"must be {_MUST_BE[kind].format(**bounds)}, not {found(node.value)}{_hint(kind, node.value, context)}"


def _unknown_key(key: str, owner: Model | None) -> str:
    allowed = sorted(_fields(owner)) if owner else []
    return f"unknown key{did_you_mean(key, allowed) or ';'} allowed: {listed(allowed)}"


def _hint(kind: str, value: Any, context: Mapping[str, Any]) -> str:
    if kind == "literal_error" and isinstance(value, str):
        return did_you_mean(value, re.findall(r"'([^']*)'", str(context["expected"])))
    if kind == "string_type" and isinstance(value, bool | int | float):
        return "; put quotes around it"
    if value is None:
        return "; give a value, or leave the key out where it has a default"
    return ""
