"""Keys that say where a network's weights come from, and what a change of them makes void."""

from __future__ import annotations

from collections.abc import Mapping

from compress.recipe.yaml_tree import Node

WEIGHTS = ("source", "library", "model", "pretrained", "checkpoint")
COMPUTE = ("pretraining", "fine_tuning")  # of the weights
ALTERNATIVES = {"pretrained": "checkpoint", "checkpoint": "pretrained"}


def without_void(section: Mapping[str, Node], changes: Mapping[str, Node]) -> dict[str, Node]:
    """Return the keys of a section without those that its changes make void.

    Other weights took another training, and one source of weights replaces the other.
    """
    kept = dict(section)
    if any(key in changes and _stated(changes, key) != _stated(section, key) for key in WEIGHTS):
        for key in COMPUTE:
            kept.pop(key, None)
    for key, other in ALTERNATIVES.items():
        if _stated(changes, key) and other not in changes:
            kept.pop(other, None)
    return kept


def _stated(section: Mapping[str, Node], key: str) -> object:
    return (section[key].plain() or None) if key in section else None
