"""The JSON Schema of `results.json`, schema_version 1: every key with its type, unit and basis.

Fractions are fractions and never percent; what is unknown is null and never 0. Keys that came later are not required,
and further ones are allowed, so that a reader of one version can read the files of another.
"""

from __future__ import annotations

from compress.report.schema.about import DATA, ENVIRONMENT, RECIPE, RUN
from compress.report.schema.answers import CLASS_CHANGES, DISAGREEMENTS
from compress.report.schema.savings import DEPLOYMENT, DEPLOYMENTS, EFFICIENCY, TRAINING_EFFICIENCY
from compress.report.schema.shapes import Schema, text
from compress.report.schema.variants import VARIANTS


def results_schema() -> Schema:
    """The schema, as `compress-model schema --results` prints it (JSON Schema, draft 2020-12)."""
    keys = {
        "schema_version": {"const": 1, "description": "Version of this layout"},
        "run": RUN,
        "command": text("The command line that made the run"),
        "recipe": RECIPE,
        "environment": ENVIRONMENT,
        "data": DATA,
        "variants": VARIANTS,
        "efficiency": EFFICIENCY,
        "deployment": DEPLOYMENT,
        "deployments": DEPLOYMENTS,
        "training_efficiency": TRAINING_EFFICIENCY,
        "class_changes": CLASS_CHANGES,
        "disagreements": DISAGREEMENTS,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "results.json of compress",
        "description": "Fractions, not percent; unknown is null, never 0; times in ms or s, as keys say",
        "type": "object",
        "properties": keys,
        "required": ["schema_version", "recipe", "environment", "data", "variants", "efficiency"],
    }
