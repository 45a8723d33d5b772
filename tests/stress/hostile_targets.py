"""Targets of `fuzz_campaign.py`: each writes an input into a folder and feeds it to the program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

from hostile_images import image, tree
from hostile_networks import artifact, checkpoint
from hostile_pages import report
from hostile_sources import source
from hostile_texts import recipe, store, table

TARGETS: dict[str, tuple[Callable[[Random, Path], None], float]] = {
    # Each with its share of the inputs: pages take a quarter of a second each.
    "recipe": (recipe, 0.36),
    "image": (image, 0.2),
    "tree": (tree, 0.03),
    "source": (source, 0.12),
    "checkpoint": (checkpoint, 0.12),
    "artifact": (artifact, 0.12),
    "table": (table, 0.08),
    "report": (report, 0.006),
    "store": (store, 0.08),
}
