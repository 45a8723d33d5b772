"""`results.json` keeps to its published schema, which describes every key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support import Job, follows_the_schema

from compress.recipe.worth import Budgets, Deployment
from compress.report.schema import results_schema

Results = dict[str, Any]


def test_the_example(results: Results) -> None:
    follows_the_schema(results)


def test_a_device_is_described_as_a_recipe_has_it() -> None:
    schema = results_schema()["properties"]
    for profile in (
        schema["deployment"]["properties"]["profile"]["properties"],
        schema["deployments"]["items"]["properties"]["profile"]["properties"],
    ):
        assert set(profile) == set(Deployment.model_fields)
        assert set(profile["budgets"]["properties"]) == set(Budgets.model_fields)


def test_the_tiny_run(job: Job) -> None:
    follows_the_schema(job.results())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema_version",), 2),
        (("variants", 0, "accuracy", "top1"), 94.0),
        (("variants", 0, "inference", "macs"), "126 M"),
        (("efficiency", 0, "variants", 0, "difference_ci95"), [0.1]),
        (("class_changes", 0, "classes", 0, "images"), -1),
        (("disagreements", "examples", 0, "thumbnail"), 3),
        (("variants", 0, "accuracy", "no_such_key"), 1),
    ],
)
def test_what_does_not_keep_to_it_is_noticed(results: Results, path: tuple[Any, ...], value: Any) -> None:
    *way, last = path
    holder: Any = results
    for step in way:
        holder = holder[step]
    holder[last] = value
    with pytest.raises(AssertionError):
        follows_the_schema(results)


def test_every_key_is_described() -> None:
    described = list(_described(results_schema()["properties"], ""))
    assert len(described) > 200
    assert not [where for where, about in described if not about]


def _described(keys: dict[str, Any], place: str) -> Iterator[tuple[str, Any]]:
    for name, value in keys.items():
        yield f"{place}.{name}", value.get("description")
        inner = value.get("items", value)
        yield from _described(inner.get("properties", {}), f"{place}.{name}")
