"""Recipes, read from YAML and validated. Loads no torch."""

from compress.recipe.graph import ordered_stages, teacher_of
from compress.recipe.load import load_recipe, parse_recipe
from compress.recipe.schema import Recipe

__all__ = ["Recipe", "load_recipe", "ordered_stages", "parse_recipe", "teacher_of"]
