"""The JSON Schema of `results.json`, generated from the records."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from compress.results.run import RunRecord


class _WithoutTitles(GenerateJsonSchema):
    """Leaves out the titles of fields, which only repeat their names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def results_schema() -> JsonSchemaValue:
    """Generate the schema that `compress-model schema --results` prints (JSON Schema, draft 2020-12).

    Keys that came later are not required, and further ones are allowed, so that a reader of one version can read the
    files of another.
    """
    schema = RunRecord.model_json_schema(schema_generator=_WithoutTitles)
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema, "title": "results.json of compress"}
