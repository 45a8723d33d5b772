"""What to do: recipes, read from YAML and checked. Loads no torch."""

from compress.recipe.graph import ordered_stages, parents_of, teacher_of
from compress.recipe.load import load_recipe, parse_recipe
from compress.recipe.schema import Recipe

__all__ = ["Recipe", "load_recipe", "ordered_stages", "parents_of", "parse_recipe", "teacher_of"]
