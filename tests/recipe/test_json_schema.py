"""The JSON Schema for editors accepts the recipes that the loader accepts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from recipe.recipe_texts import GOOD

import compress
from compress.recipe.json_schema import recipe_schema
from compress.recipe.yaml_tree import read_yaml

RECIPES = sorted((Path(compress.__file__).parents[1] / "recipes").rglob("*.yaml"))
SCHEMA = recipe_schema()
CHECK = jsonschema.Draft202012Validator(SCHEMA)


def test_schema_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_pass(recipe: Path) -> None:
    assert [error.message for error in CHECK.iter_errors(yaml.safe_load(recipe.read_text()))] == []


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("seed: 7", "sede: 7"),
        ("seed: 7", "seed: seven"),
        ("    epochs: 3", "    epocs: 3"),
        ("shift: 0.1", "shift: 3"),
        ("{shift: 0.1, flip: true}", "standrad"),
        ("kind: prune", "kind: wombat"),
        ("trend: epoch-fp32", "trend: epoch-fp23"),
        ("source: cifar10", "source: cifar100"),
        ("{source: timm, model: resnet50, pretrained: true}", "embeded"),
        ("student: resnet18", "student: {use: resnet19}"),
        ("student: resnet18", "student: {model: x, resolution: big}"),
        ("    epochs: 3", "    teacher: alive"),
    ],
)
def test_mistakes_are_rejected(good: str, bad: str) -> None:
    def read(text: str) -> Any:
        return read_yaml(text, "recipe.yaml", []).plain()  # YAML 1.2, as editors read it

    assert CHECK.is_valid(read(GOOD))
    for views in ("standard", "{use: strong, flip: false}", "{crop: [0.3, 1]}"):
        assert CHECK.is_valid(read(GOOD.replace("{shift: 0.1, flip: true}", views)))
    assert not CHECK.is_valid(read(GOOD.replace(good, bad)))
