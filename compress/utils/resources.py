"""Where the shipped recipes, configs and embedded assets are, in a source checkout and in an installed wheel."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
ASSETS = PACKAGE / "assets"
DEFAULT_TREND = "epoch-fp32"
"""What a recipe without `trend:` is held against, and which trend stands for all where one must."""


def shipped(folder: str) -> Path:
    """Folder of shipped files: `recipes` or `configs`."""
    installed = PACKAGE / "_shipped" / folder
    return installed if installed.is_dir() else PACKAGE.parent / folder


def config_names(kind: str) -> list[str]:
    """Names of the shipped configs of a kind: `data`, `teachers`, `students`, `trends`, `deployments`."""
    return sorted(path.stem for path in (shipped("configs") / kind).glob("*.yaml"))


def expand(path: str) -> str:
    """Replace `{assets}`, with which shipped configs name files inside the package."""
    return path.replace("{assets}", str(ASSETS))
