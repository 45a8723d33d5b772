"""compress: distil, prune, quantize, export and measure an image classifier from one recipe."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compress.deployment.artifact import load_artifact
    from compress.errors import CompressError, RecipeError, UsageError
    from compress.pipeline.runner import run
    from compress.recipe.load import load_recipe
    from compress.recipe.schema import Recipe

_WHERE = {
    "CompressError": "compress.errors",
    "Recipe": "compress.recipe.schema",
    "RecipeError": "compress.errors",
    "UsageError": "compress.errors",
    "load_artifact": "compress.deployment.artifact",
    "load_recipe": "compress.recipe.load",
    "run": "compress.pipeline.runner",
}
__all__ = ["CompressError", "Recipe", "RecipeError", "UsageError", "load_artifact", "load_recipe", "run"]


def __getattr__(name: str) -> Any:
    """Public names are loaded when they are asked for, so that `import compress` stays quick."""
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
