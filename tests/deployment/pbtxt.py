"""A strict reader of protobuf's text format, as far as a Triton configuration uses it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

TOKEN = re.compile(r'\s*(?:#[^\n]*\n\s*)*("(?:[^"\\\n]|\\.)*"|[A-Za-z_][A-Za-z_0-9]*|-?\d+|[{}\[\]:,])')


def parse(text: str) -> dict[str, Any]:
    """Fields by name; one that occurs again, or is a list, is a list.

    Raises:
        ValueError: it is not text format.
    """
    tokens = list(_tokens(text))
    fields, rest = _fields(tokens, 0)
    if rest != len(tokens):
        raise ValueError(f"nothing may follow, but {tokens[rest]!r} does")
    return fields


def _tokens(text: str) -> Iterator[str]:
    place = 0
    while text[place:].strip():
        found = TOKEN.match(text, place)
        if not found:
            raise ValueError(f"not text format: {text[place : place + 30]!r}")
        yield found[1]
        place = found.end()


def _fields(tokens: list[str], place: int) -> tuple[dict[str, Any], int]:
    fields: dict[str, Any] = {}
    while place < len(tokens) and tokens[place] != "}":
        name = tokens[place]
        if not name[0].isalpha():
            raise ValueError(f"{name!r} is no name")
        colon = tokens[place + 1] == ":"
        place += 2 if colon else 1
        value, place = _value(tokens, place, colon)
        if name in fields:
            raise ValueError(f"{name} occurs twice")
        fields[name] = value
    return fields, place


def _value(tokens: list[str], place: int, colon: bool) -> tuple[Any, int]:
    token = tokens[place]
    if token == "{":
        fields, place = _fields(tokens, place + 1)
        if tokens[place] != "}":
            raise ValueError("a section is not closed")
        return fields, place + 1
    if token == "[":
        values = []
        while tokens[place] != "]":
            value, place = _value(tokens, place + 1, colon)
            values.append(value)
            if tokens[place] not in (",", "]"):
                raise ValueError(f"{tokens[place]!r} in a list")
        return values, place + 1
    if not colon:
        raise ValueError(f"a colon is missing before {token!r}")
    if token[0] == '"':
        return token[1:-1], place + 1
    return (int(token) if token.lstrip("-").isdigit() else {"true": True, "false": False}.get(token, token)), place + 1
