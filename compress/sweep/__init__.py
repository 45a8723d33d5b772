"""Search over the settings of a recipe, and the Pareto page of what it found."""
