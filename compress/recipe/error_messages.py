"""Translate pydantic's errors into one-line problems with file and line."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from compress.recipe.base import Section
from compress.recipe.schema import Recipe
from compress.recipe.stage import StageSection, stage_sections
from compress.recipe.yaml_tree import KeyPath, Node
from compress.utils.errors import Problem
from compress.utils.messages import describe, did_you_mean, join_words, one_line
from compress.utils.resources import config_names

Model = type[Section]

_EXPECTED = {
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a string",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a section of keys and values",
    "model_type": "a section of keys and values",
    "model_attributes_type": "a section of keys and values",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "string_too_short": "a string of length {min_length} or more",
    "string_pattern_mismatch": "1 to 64 letters, digits, '_', '.' or '-', starting with a letter or digit",
}
_BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number")
_UNION_LABELS = {"int": "an integer", "list[int]": "a list of integers", "literal['auto']": "'auto'"}


def describe_errors(error: ValidationError, root: Node, reported: Collection[KeyPath] = ()) -> Iterator[Problem]:
    """Yield the problems of a recipe that pydantic found, except those below the `reported` paths."""
    unions: set[KeyPath] = set()
    for details in error.errors(include_url=False, include_input=False):
        path, owner = _resolve(details["loc"])
        node, present = _nearest(root, path)
        if any(path[: len(known)] == known for known in reported):
            continue
        if details["type"] == "missing":
            yield Problem(node.place, f"{format_path(root, path)}: is missing{_description(owner, path)}")
        elif len(present) < len(path):
            if present in unions:
                continue
            unions.add(present)
            if details["type"] in _BOUNDS:  # a number in place of a section
                message = message_of(details, node, owner, present)
            else:  # pydantic reports the alternatives of `int | list[int]` as if they were keys
                message = f"must be {join_words(_alternatives(error, present))}, not {describe(node.value)}"
            yield Problem(node.place, f"{format_path(root, present)}: {message}")
        elif details["type"].startswith("union_tag"):
            yield _tag_problem(root, node, path, details)
        else:
            yield Problem(node.place, f"{format_path(root, path)}: {message_of(details, node, owner, path)}")


def format_path(root: Node, path: KeyPath) -> str:
    """Format a path as `--set` takes it: `stages.distilled.epochs`."""
    parts, node = [], root
    for part in path:
        node = node.child(part) or Node(None, "")
        name = node.child("id") if isinstance(part, int) else None
        parts.append(one_line(str(name.value)) if name and isinstance(name.value, str) and name.value else str(part))
    return one_line(".".join(parts)) if parts else "the recipe"


def _nearest(root: Node, path: KeyPath) -> tuple[Node, KeyPath]:
    """Return the node at a path, or the nearest one above it, and its path."""
    node = root
    for depth, part in enumerate(path):
        child = node.child(part)
        if child is None:
            return node, path[:depth]
        node = child
    return node, path


def _resolve(location: Sequence[str | int]) -> tuple[KeyPath, Model | None]:
    """Drop the tags of discriminated unions from a pydantic location; return its path and the model of its last key."""
    path, owner, _ = _walk(location)
    return path, owner


def _walk(location: Sequence[str | int]) -> tuple[KeyPath, Model | None, list[Model]]:
    """Follow a pydantic location; return its path, the model of its last key, and the models allowed there."""
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
    return tuple(path), owner, models


def _fields(model: Model) -> dict[str, object]:
    """Map the keys of a section, as written, to their annotations."""
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _sections(annotation: object) -> list[Model]:
    if annotation is StageSection:
        return list(stage_sections().values())
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _sections(argument)]


def _tags(model: Model) -> tuple[str, ...]:
    field = model.model_fields.get("kind") or model.model_fields.get("source")
    return get_args(field.annotation) if field else ()


def _alternatives(error: ValidationError, union: KeyPath) -> list[str]:
    """Return the alternatives of a union, from the labels after its path."""
    labels: dict[str, None] = {}
    for details in error.errors(include_url=False, include_input=False):
        path, _ = _resolve(details["loc"])
        if path[: len(union)] == union and len(path) > len(union):
            label = str(path[len(union)])
            labels[_UNION_LABELS.get(label, label)] = None
    return list(labels)


def _description(owner: Model | None, path: KeyPath) -> str:
    field = owner.model_fields.get("from_" if path[-1] == "from" else str(path[-1])) if owner else None
    return f": {field.description}" if field and field.description else ""


def _tag_problem(root: Node, node: Node, path: KeyPath, details: ErrorDetails) -> Problem:
    """Describe a section whose `kind` or `source` is missing or unknown."""
    _, _, models = _walk(details["loc"])
    key = details["ctx"]["discriminator"].strip("'")
    allowed = [tag for model in models for tag in _tags(model)]
    tag = node.child(key)
    if tag is None:
        configs = {"data": "data", "teacher": "teachers"}.get(str(path[-1]))
        use = f"; or use: {join_words(config_names(configs))}" if configs else ""
        return Problem(
            node.place, f"{format_path(root, (*path, key))}: is missing; allowed: {join_words(allowed)}{use}"
        )
    hint = did_you_mean(tag.value, allowed) if isinstance(tag.value, str) else ""
    message = f"unknown {key} {describe(tag.value)}{hint or ';'} allowed: {join_words(allowed)}"
    return Problem(tag.place, f"{format_path(root, (*path, key))}: {message}")


def message_of(details: ErrorDetails, node: Node, owner: Model | None, path: KeyPath) -> str:
    """Say what is wrong with the value of `node` at `path`, a key of section `owner`, from pydantic's error."""
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(str(path[-1]), owner)
    if kind == "value_error":
        return str(context["error"])
    if kind in ("too_short", "too_long"):
        bound = "at least {min_length}" if kind == "too_short" else "at most {max_length}"
        actual = len(node.value) if isinstance(node.value, list) else "more"
        return f"number of entries must be {bound.format(**context)}, not {actual}"
    if kind not in _EXPECTED:
        return details["msg"]
    bounds = {key: int(value) if value in (0.0, 1.0) else value for key, value in context.items()}
    expected = _EXPECTED[kind].format(**bounds)
    return f"must be {expected}, not {describe(node.value)}{_hint(kind, node.value, expected)}"


def _unknown_key(key: str, owner: Model | None) -> str:
    allowed = sorted(_fields(owner)) if owner else []
    return f"unknown key{did_you_mean(key, allowed) or ';'} allowed: {join_words(allowed)}"


def _hint(kind: str, value: object, expected: str) -> str:
    if kind == "literal_error" and isinstance(value, str):
        return did_you_mean(value, re.findall(r"'([^']*)'", expected))
    if kind == "string_type" and isinstance(value, bool | int | float):
        return "; put quotes around it"
    if value is None:
        return "; set a value, or remove the key to use its default"
    return ""
