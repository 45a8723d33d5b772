"""Paths of shipped recipes, configs and embedded assets, in a source checkout and in an installed wheel."""

from __future__ import annotations

from pathlib import Path

from compress.utils.errors import UsageError

PACKAGE = Path(__file__).resolve().parent.parent
ASSETS = PACKAGE / "assets"
DEFAULT_TREND = "notable"
"""The trend of a recipe without `trend:`, and the one shown where there is room for one only."""


def shipped(folder: str) -> Path:
    """Return the folder of shipped `recipes` or `configs`."""
    installed = PACKAGE / "_shipped" / folder
    return installed if installed.is_dir() else PACKAGE.parent / folder


def config_names(kind: str) -> list[str]:
    """List the shipped configs of a kind, the name of its folder: `data`, `views`, `students`, `spaces`, ..."""
    return sorted(path.stem for path in (shipped("configs") / kind).glob("*.yaml"))


def expand(path: str) -> str:
    """Replace `{assets}`, by which shipped configs refer to files inside the package, and a `~` at the start.

    Raises:
        UsageError: the user of this process has no home.
    """
    whole = path.replace("{assets}", str(ASSETS))
    try:
        return str(Path(whole).expanduser()) if whole.startswith("~") else whole
    except RuntimeError as error:
        raise UsageError(f"{path}: no home folder is known for ~; set HOME or write the whole path") from error
