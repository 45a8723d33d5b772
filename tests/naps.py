"""A recipe of naps, units of known length beside a real network, for tests and campaigns of workers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

PLUGIN = Path(__file__).parent / "pipeline" / "napping.py"
RECIPE = """\
name: naps
data: {{source: image-folder, path: {root}/images, resolution: 32}}
stages:
  - {{id: net, kind: model, model: {{source: timm, model: test_resnet, checkpoint: {root}/teacher.safetensors,
     classes: [across, both, down]}}}}
{naps}
measure: {{batches: [1], rounds: 5, processes: 1, energy: off}}
worth: {{references: [net]}}
"""


def write_naps(path: Path, root: Path, settings: Iterable[str]) -> None:
    """Write a recipe with a nap per text of settings, on the images and weights of a test job in `root`."""
    lines = [f"  - {{id: nap{number}, kind: nap, from: net, {text}}}" for number, text in enumerate(settings)]
    path.write_text(RECIPE.format(root=root, naps="\n".join(lines)))
