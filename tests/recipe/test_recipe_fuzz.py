"""Fuzzing: any input either loads or raises an error meant for users."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recipe.recipe_texts import GOOD

from compress.recipe import load_recipe, parse_recipe
from compress.utils.errors import RecipeError, UsageError

QUICK = settings(max_examples=150, suppress_health_check=list(HealthCheck))
KEYS = ["stages", "data", "teacher", "kind", "source", "from", "id", "use", "cifar10", "distill", "export", "timm"]
SIGNS = [*"-:,[]{}&*!|>'\"#% \n\t\0\x85\ufeff\ud800", "\n  ", "\n- ", ": ", "&a ", "*a", "<<", "---", "!!python/x"]
WORDS = st.sampled_from(KEYS + SIGNS)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | WORDS, inner, max_size=3),
    max_leaves=6,
)


def attempt(text: str, *overrides: str) -> None:
    with contextlib.suppress(RecipeError):
        parse_recipe(text, overrides)


def paths_of(value: Any, here: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    return [path for key, child in items for path in [(*here, key), *paths_of(child, (*here, key))]]


PATHS = paths_of(yaml.safe_load(GOOD))


@QUICK
@given(st.binary(max_size=300))
def test_random_bytes(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "any.yaml"
        file.write_bytes(content)
        with contextlib.suppress(UsageError):
            load_recipe(file)


@QUICK
@given(st.text(max_size=200) | st.lists(WORDS, max_size=40).map("".join))
def test_random_text(text: str) -> None:
    attempt(text)


@QUICK
@given(st.integers(0, len(GOOD)), st.integers(0, 30), st.text(max_size=5) | WORDS)
def test_random_edits_of_the_text(start: int, length: int, put: str) -> None:
    attempt(GOOD[:start] + put + GOOD[start + length :])


@QUICK
@given(st.lists(st.tuples(st.sampled_from(PATHS), VALUES), min_size=1, max_size=4))
def test_random_values(changes: list[tuple[tuple[str | int, ...], Any]]) -> None:
    recipe = yaml.safe_load(GOOD)
    for path, value in changes:
        holder = recipe
        with contextlib.suppress(KeyError, IndexError, TypeError):
            for part in path[:-1]:
                holder = holder[part]
            holder[path[-1]] = value
    attempt(json.dumps(recipe))


@QUICK
@given(st.lists(st.text(max_size=30) | st.tuples(st.sampled_from(PATHS), VALUES), max_size=3))
def test_random_overrides(overrides: list[Any]) -> None:
    texts = [
        item if isinstance(item, str) else ".".join(map(str, item[0])) + "=" + json.dumps(item[1]) for item in overrides
    ]
    attempt(GOOD, *texts)
