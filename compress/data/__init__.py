"""Data sources, decoding, views, splits and leakage."""

# Each source declares its section of the recipe, and `compress.recipe.data` loads them all: it must come first,
# whichever module of this package is imported.
import compress.recipe.data  # noqa: F401
