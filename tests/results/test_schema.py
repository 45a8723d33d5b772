"""`results.json` follows its published schema, which describes every key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from results_factory import example
from support import Job, alternatives, follows_the_schema

from compress.recipe.worth import Budgets, Deployment, Trend
from compress.results.schema import results_schema


def test_the_example_follows_the_schema() -> None:
    follows_the_schema(example())


@pytest.mark.parametrize(("name", "section"), [("DeviceProfile", Deployment), ("Budgets", Budgets), ("Trend", Trend)])
def test_sections_of_a_recipe_are_described_as_the_recipe_has_them(name: str, section: Any) -> None:
    assert set(results_schema()["$defs"][name]["properties"]) == set(section.model_fields)


def test_the_tiny_run_follows_the_schema(job: Job) -> None:
    follows_the_schema(job.results())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema_version",), 1),
        (("variants", 0, "accuracy", "top1"), 94.0),
        (("variants", 0, "inference", "macs"), "126 M"),
        (("efficiency", 0, "variants", 0, "difference_ci95"), [0.1]),
        (("class_changes", 0, "classes", 0, "images"), -1),
        (("disagreements", "examples", 0, "thumbnail"), 3),
        (("variants", 0, "accuracy", "no_such_key"), 1),
    ],
)
def test_a_violation_is_noticed(path: tuple[Any, ...], value: Any) -> None:
    results = example()
    *way, last = path
    holder: Any = results
    for step in way:
        holder = holder[step]
    holder[last] = value
    with pytest.raises(AssertionError):
        follows_the_schema(results)


def test_every_key_is_described() -> None:
    schema = results_schema()
    described = list(_described(schema, schema["$defs"], ""))
    assert len(described) > 200
    assert not [where for where, about in described if not about]


def _described(schema: dict[str, Any], definitions: dict[str, Any], place: str) -> Iterator[tuple[str, Any]]:
    for alternative in alternatives(schema, definitions):
        yield from _described(alternative["items"], definitions, place) if "items" in alternative else ()
        for name, value in alternative.get("properties", {}).items():
            about = value.get("description") or next(
                (one["description"] for one in alternatives(value, {}) if "description" in one), None
            )
            yield f"{place}.{name}", about
            yield from _described(value, definitions, f"{place}.{name}")
