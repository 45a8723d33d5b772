"""Labels of the kinds of stage, as each kind declares them."""

from __future__ import annotations

from compress.recipe.stage import stage_sections
from compress.report import formats as f


def made_by(kind: str) -> str:
    """Return how a kind of stage makes a variant; its name where its plugin is not loaded."""
    return str(getattr(stage_sections().get(kind), "lineage", "")) or f.plain(kind)


def hub_tag(kind: str) -> str | None:
    """Return the tag of the Hugging Face Hub for variants of a kind; None where it has none."""
    return getattr(stage_sections().get(kind), "tag", None)
