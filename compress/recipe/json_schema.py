"""JSON Schema of recipes as written: sections may be names, and filled-in keys are optional."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic.json_schema import JsonSchemaValue as Schema

from compress.recipe.schema import recipe_model
from compress.utils.resources import config_names

NAMED = {
    "data": "data",
    "views": "views",
    "teacher": "teachers",
    "student": "students",
    "trend": "trends",
    "deployment": "deployments",
}
"""Keys whose section may be given by name -> folder of `configs/` with the names."""
FILLED_IN = {"Recipe": ("name", "worth"), "Worth": ("trend",)}
"""Keys that a resolved recipe has and a written one may leave out."""


def recipe_schema() -> Schema:
    """Return the schema of a recipe file, for completion and checks in editors (JSON Schema, draft 2020-12)."""
    schema = recipe_model().model_json_schema(by_alias=True)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    for name, section in [("Recipe", schema), *schema["$defs"].items()]:
        optional = FILLED_IN.get(name, ())
        section["required"] = [key for key in section.get("required", []) if key not in optional]
        if not section["required"]:
            del section["required"]
        for key, value in section.get("properties", {}).items():
            # `teacher` and `views` of a distillation are not sections.
            if key in NAMED and (key not in ("teacher", "views") or "$ref" in value or "oneOf" in value):
                section["properties"][key] = _or_by_name(value, key)
            if key == "deployments":
                value["items"] = _or_by_name(value["items"], "deployment")
    return schema


def _or_by_name(section: Schema, key: str) -> Schema:
    names = config_names(NAMED[key])
    # A student may also be named by any model of its library.
    name: Schema = {"type": "string", "examples": names} if key == "student" else {"enum": names}
    overlay: Schema = {"type": "object", "properties": {"use": {"enum": names}}, "required": ["use"]}
    return {"anyOf": [name, overlay, *_alternatives(section)]}


def _alternatives(section: Schema) -> Iterator[Schema]:
    yield from section["anyOf"] if set(section) == {"anyOf"} else [section]
