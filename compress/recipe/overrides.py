"""`--set a.b.c=value`: command-line overrides, checked like the recipe itself."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from compress.recipe.compose import Composer
from compress.recipe.weights import without_void
from compress.recipe.yaml_tree import MAX_DEPTH, Node, read_yaml, scalar
from compress.utils.errors import Problem, RecipeError
from compress.utils.messages import describe, did_you_mean, join_words, one_line

PLACE = "--set "  # start of the place of a value that an override has set


@dataclass(frozen=True)
class Override:
    """One override: the parts of its key, and its value."""

    parts: tuple[str, ...]
    node: Node


def read_overrides(texts: Sequence[str], problems: list[Problem]) -> list[Override]:
    """Parse `key=value` texts, or a single one, appending those that cannot be parsed to `problems`."""
    read = []
    for text in [texts] if isinstance(texts, str) else texts:
        key, equals, value = text.partition("=")
        place = f"{PLACE}{one_line(text)}"
        parts = tuple(key.strip().split("."))
        if not equals or not all(parts):
            problems.append(Problem(place, "expected key=value, such as stages.distilled.epochs=5"))
        elif len(parts) > MAX_DEPTH:
            problems.append(Problem(place, f"key has more than {MAX_DEPTH} parts"))
        else:
            try:
                read.append(Override(parts, read_yaml(value, place, problems, place)))
            except RecipeError as error:
                problems.extend(error.problems)
    return read


def write_override(key: str, value: object) -> str:
    """Write the text of `--set` that gives a key a value of JSON; a plain word stays without quotes."""
    plain = isinstance(value, str) and re.fullmatch(r"[\w./-]+", value) and scalar(value) == value
    return f"{key}={value if plain else json.dumps(value)}"


def apply_overrides(root: Node, overrides: Sequence[Override], composer: Composer, problems: list[Problem]) -> None:
    """Apply overrides to a recipe in order, appending those that cannot be applied to `problems`."""
    for override in overrides:
        composer.compose(root)  # an override may change a key of a section given by name
        message = _apply(root, override)
        if message:
            problems.append(Problem(override.node.place, message))


def _apply(root: Node, override: Override) -> str | None:
    node, rest, walked = root, override.parts, ""
    while True:
        if isinstance(node.value, dict):
            used, name = _longest(rest, list(node.value))
            if used == len(rest):
                node.value = _with(node.value, name, override.node)
                return None
            node = node.value.setdefault(name, Node({}, override.node.place))
        elif isinstance(node.value, list):
            names = _names(node.value)
            used, name = _longest(rest, list(names))
            if name not in names:
                return _no_entry(walked, name, names)
            if used == len(rest):
                node.value[names[name]] = override.node
                return None
            node = node.value[names[name]]
        else:
            return f"cannot set '{one_line(rest[0])}': {one_line(walked)} is {describe(node.value)}, not a section"
        walked, rest = ".".join([*([walked] if walked else []), name]), rest[used:]


def _with(section: dict[str, Node], name: str, value: Node) -> dict[str, Node]:
    """Return a section with a key replaced; keys that overrides have set are never void."""
    overridden = {key: node for key, node in section.items() if node.place.startswith(PLACE)} | {name: value}
    written = {key: node for key, node in section.items() if key not in overridden or key == name}
    return without_void(written, overridden) | overridden


def _longest(parts: tuple[str, ...], names: Sequence[str]) -> tuple[int, str]:
    """Return how many parts form the next name, and the name; an id may contain dots."""
    for used in range(len(parts), 1, -1):
        if ".".join(parts[:used]) in names:
            return used, ".".join(parts[:used])
    return 1, parts[0]


def _names(items: list[Node]) -> dict[str, int]:
    """Map the names of list entries, ids and indices, to their index."""
    names: dict[str, int] = {}
    for index, item in enumerate(items):
        identifier = item.child("id")
        if identifier and isinstance(identifier.value, str):
            names.setdefault(identifier.value, index)
    return {str(index): index for index in range(len(items))} | names


def _no_entry(walked: str, name: str, names: dict[str, int]) -> str:
    ids = [known for known in names if not known.isdecimal()]
    hint = did_you_mean(name, ids)
    allowed = f"allowed: {join_words(ids[:50])}" if ids else f"it has {len(names)} entries, counted from 0"
    return f"{one_line(walked)} has no entry '{one_line(name)}'{hint or ';'} {allowed}"
