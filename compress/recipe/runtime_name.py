"""The name of a runtime in a recipe: one of the table's, those that plugins have added among them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from compress.registry import RUNTIMES
from compress.utils.messages import did_you_mean, found, listed

AUTO = "auto"


def _a_runtime(name: str, *others: str) -> str:
    names = [*RUNTIMES, *others]
    if name not in names:
        raise ValueError(f"must be {listed(map(repr, names))}, not {found(name)}{did_you_mean(name, names)}")
    return name


def _a_runtime_or_auto(name: str) -> str:
    return _a_runtime(name, AUTO)


def _listed(value: Any) -> Any:
    return [value] if value == AUTO else value


def _auto_alone(names: list[str]) -> list[str]:
    if AUTO in names and len(names) > 1:
        raise ValueError(f"'{AUTO}' stands for all runtimes: it is named alone, or not at all")
    return names


Runtime = Annotated[str, AfterValidator(_a_runtime), WithJsonSchema({"enum": list(RUNTIMES), "type": "string"})]

Runtimes = Annotated[
    list[Annotated[str, AfterValidator(_a_runtime_or_auto)]],
    BeforeValidator(_listed),
    AfterValidator(_auto_alone),
    WithJsonSchema(
        {"anyOf": [{"const": AUTO}, {"type": "array", "items": {"enum": list(RUNTIMES), "type": "string"}}]}
    ),
]
