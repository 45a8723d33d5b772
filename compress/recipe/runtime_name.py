"""Runtime names in a recipe: those of the registry, including the ones that plugins added."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from compress.registry import RUNTIMES
from compress.utils.messages import describe, did_you_mean, join_words

AUTO = "auto"


def _runtime(name: str, *others: str) -> str:
    names = [*RUNTIMES, *others]
    if name not in names:
        raise ValueError(f"must be {join_words(map(repr, names))}, not {describe(name)}{did_you_mean(name, names)}")
    return name


def _runtime_or_auto(name: str) -> str:
    return _runtime(name, AUTO)


def _as_list(value: Any) -> Any:
    return [value] if value == AUTO else value


def _auto_alone(names: list[str]) -> list[str]:
    if AUTO in names and len(names) > 1:
        raise ValueError(f"'{AUTO}' selects all runtimes and cannot be combined with others; remove it or the others")
    return names


Runtime = Annotated[str, AfterValidator(_runtime), WithJsonSchema({"enum": list(RUNTIMES), "type": "string"})]

Runtimes = Annotated[
    list[Annotated[str, AfterValidator(_runtime_or_auto)]],
    BeforeValidator(_as_list),
    AfterValidator(_auto_alone),
    WithJsonSchema(
        {"anyOf": [{"const": AUTO}, {"type": "array", "items": {"enum": list(RUNTIMES), "type": "string"}}]}
    ),
]
