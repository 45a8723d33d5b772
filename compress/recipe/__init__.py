"""Recipes, read from YAML and validated. Loads no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compress.recipe.graph import ordered_stages, teacher_of
    from compress.recipe.load import load_recipe, parse_recipe
    from compress.recipe.schema import Recipe

__all__ = ["Recipe", "load_recipe", "ordered_stages", "parse_recipe", "teacher_of"]
_HOMES = {
    "Recipe": "schema",
    "load_recipe": "load",
    "ordered_stages": "graph",
    "parse_recipe": "load",
    "teacher_of": "graph",
}


def __getattr__(name: str) -> Any:
    # On first use: the schema loads the data sources, which import parts of this package themselves.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
