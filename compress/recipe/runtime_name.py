"""The name of a runtime in a recipe: one of the table's, those that plugins have added among them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from compress.deployment.runtimes import RUNTIMES
from compress.recipe.words import did_you_mean, found, listed


def _a_runtime(name: str) -> str:
    if name not in RUNTIMES:
        raise ValueError(f"must be {listed(map(repr, RUNTIMES))}, not {found(name)}{did_you_mean(name, RUNTIMES)}")
    return name


Runtime = Annotated[str, AfterValidator(_a_runtime), WithJsonSchema({"enum": list(RUNTIMES), "type": "string"})]
