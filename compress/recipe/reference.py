"""The reference of recipes as Markdown, out of their JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from compress.recipe.schema import recipe_model

Schema = Mapping[str, Any]
BOUNDS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}
HEAD = """\
# Every key of a recipe

Written by `compress-model schema --markdown`. Sections are in the order in which a recipe comes to them; where a number
may stand for a section, that is said. Unknown keys are errors, and so is a value of another type.
"""


def reference() -> str:
    """One table for each section of a recipe: key, type, default, meaning."""
    schema = recipe_model().model_json_schema(by_alias=True)
    defs: Mapping[str, Schema] = schema["$defs"]
    parts = [HEAD, *_section("Recipe", schema, defs)]
    for name in _in_order(schema, defs):
        parts += _section(name, defs[name], defs)
    return "\n".join(parts)


def _in_order(schema: Schema, defs: Mapping[str, Schema]) -> Iterator[str]:
    """Names of the sections, each where it is first named."""
    told: set[str] = set()
    waiting = [_references(schema)]
    while waiting:
        name = next((name for name in waiting[0] if name not in told), None)
        if name is None:
            waiting.pop(0)
            continue
        told.add(name)
        yield name
        waiting.append(_references(defs[name]))


def _references(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        own = [value["$ref"].rpartition("/")[2]] if "$ref" in value else []
        return own + [name for key, part in value.items() if key != "$defs" for name in _references(part)]
    return [name for part in value for name in _references(part)] if isinstance(value, list) else []


def _section(name: str, schema: Schema, defs: Mapping[str, Schema]) -> list[str]:
    whole = next((part for part in schema.get("anyOf", ()) if "properties" in part), schema)
    short = "" if whole is schema else " A number may stand in its place."
    lines = [f"## {name}", "", _one_line(schema.get("description") or whole.get("description", "")) + short, ""]
    lines += ["| key | value | default | |", "|---|---|---|---|"]
    required = whole.get("required", ())
    for key, value in whole.get("properties", {}).items():
        default = "required" if key in required else _default(value)
        about = _one_line(value.get("description", ""))
        lines.append(f"| `{key}` | {_type(value, defs)} | {default} | {about} |")
    return [*lines, ""]


def _default(value: Schema) -> str:
    default = value.get("default")
    if default is None:
        return ""
    return "see there" if isinstance(default, dict) and default else f"`{json.dumps(default, ensure_ascii=False)}`"


def _type(value: Schema, defs: Mapping[str, Schema]) -> str:
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for key in ("anyOf", "oneOf"):
        if key in value:
            kinds = [_type(part, defs) for part in value[key] if part.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{option}`" for option in value["enum"])
    kind = value.get("type", "any value")
    if kind == "array":
        return f"list of {_type(value.get('items', {}), defs)}" if "items" in value else "list"
    if kind == "object":
        inner = value.get("additionalProperties")
        return f"keys with {_type(inner, defs)}" if isinstance(inner, Mapping) else "section"
    words = {"integer": "whole number", "boolean": "true or false", "string": "text"}.get(kind, str(kind))
    bounds = [text.format(value[bound]) for bound, text in BOUNDS.items() if bound in value]
    return " ".join([words, " and ".join(bounds)]).strip()


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
