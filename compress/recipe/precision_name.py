"""Precisions of exported files in a recipe: one, or a list."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from compress.utils.messages import describe, did_you_mean, join_words
from compress.utils.precision import FLOATS

INT8 = "int8"
"""What an export does not make; its stage says what does."""


def _known(given: list[str]) -> list[str]:
    """Return each once. Refused as a whole: a single one has no place within the list that it stands for."""
    names = [*FLOATS, INT8]
    for name in given:
        if name not in names:
            raise ValueError(f"must be {join_words(map(repr, names))}, not {describe(name)}{did_you_mean(name, names)}")
    return list(dict.fromkeys(given))


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Precisions = Annotated[
    list[str],
    BeforeValidator(_as_list),
    AfterValidator(_known),
    WithJsonSchema({"anyOf": [{"enum": list(FLOATS)}, {"type": "array", "items": {"enum": list(FLOATS)}}]}),
]
