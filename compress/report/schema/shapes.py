"""The shapes that the schema of `results.json` is put together from; each may be null, which is: not known."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def of(kind: str, about: str, **more: Any) -> Schema:
    """A value of a JSON type, null where it is not known."""
    return {"type": [kind, "null"], "description": about, **more}


def text(about: str) -> Schema:
    """Text."""
    return of("string", about)


def whole(about: str) -> Schema:
    """A whole number that is not negative."""
    return of("integer", about, minimum=0)


def number(about: str) -> Schema:
    """A number."""
    return of("number", about)


def share(about: str) -> Schema:
    """A fraction from 0 to 1."""
    return of("number", f"{about}; a fraction", minimum=0, maximum=1)


def yes(about: str) -> Schema:
    """True or false."""
    return of("boolean", about)


def ends(about: str) -> Schema:
    """An interval."""
    return of("array", f"{about}: lower and upper end", items={"type": "number"}, minItems=2, maxItems=2)


def texts(about: str) -> Schema:
    """A list of texts."""
    return of("array", about, items={"type": "string"})


def mapping(about: str, values: Schema) -> Schema:
    """An object with any keys."""
    return of("object", about, additionalProperties=values)


def record(about: str, keys: dict[str, Schema], required: tuple[str, ...] = ()) -> Schema:
    """An object with these keys, and perhaps further ones."""
    return of("object", about, properties=keys, required=list(required))


def rows(about: str, keys: dict[str, Schema], required: tuple[str, ...] = ()) -> Schema:
    """A list of such objects."""
    return of("array", about, items=record("One of them", keys, required))
