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


def remedy(kind: str) -> str:
    """Return what to try where a variant of a kind lost much accuracy."""
    return str(getattr(stage_sections().get(kind), "remedy", "")) or "other settings of its stage"
