"""The JSON Schema of recipes as people write them: with names in place of sections, and with what may be left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from compress.recipe.schema import recipe_model
from compress.utils.resources import config_names

Schema = dict[str, Any]
NAMED = {"data": "data", "teacher": "teachers", "student": "students", "trend": "trends", "deployment": "deployments"}
"""Keys whose section may be given by name, and the folder of `configs/` that has the names."""
FILLED_IN = {"Recipe": ("name", "worth"), "Worth": ("trend",)}
"""Keys that a whole recipe has and a written one may leave out."""


def recipe_schema() -> Schema:
    """The schema of a recipe's file, for editors that complete and check (JSON Schema, draft 2020-12)."""
    schema = recipe_model().model_json_schema(by_alias=True)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    for name, section in [("Recipe", schema), *schema["$defs"].items()]:
        optional = FILLED_IN.get(name, ())
        section["required"] = [key for key in section.get("required", []) if key not in optional]
        if not section["required"]:
            del section["required"]
        for key, value in section.get("properties", {}).items():
            if key in NAMED and (key != "teacher" or "$ref" in value or "oneOf" in value):
                section["properties"][key] = _or_by_name(value, key)
            if key == "deployments":
                value["items"] = _or_by_name(value["items"], "deployment")
    return schema


def _or_by_name(section: Schema, key: str) -> Schema:
    names = config_names(NAMED[key])
    # A student's name may be any model's.
    name: Schema = {"type": "string", "examples": names} if key == "student" else {"enum": names}
    on_top: Schema = {"type": "object", "properties": {"use": {"enum": names}}, "required": ["use"]}
    return {"anyOf": [name, on_top, *_alternatives(section)]}


def _alternatives(section: Schema) -> Iterator[Schema]:
    yield from section["anyOf"] if set(section) == {"anyOf"} else [section]
