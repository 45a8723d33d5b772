"""Pythons with few packages, as on a device."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path


def bare_python(folder: Path, packages: Sequence[str]) -> Path:
    """Make a virtual environment with links to some of the packages that are installed here; return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    link_packages(packages, next(folder.glob("lib/python*/site-packages")))
    return folder / "bin" / "python"


def link_packages(names: Sequence[str], site: Path) -> None:
    """Link distributions, and what they require, into a folder."""
    for name in closure(names):
        distribution = metadata.distribution(name)
        root = Path(str(distribution.locate_file("")))
        for top in {Path(file).parts[0] for file in distribution.files or () if not str(file).startswith("..")}:
            if top != "__pycache__" and not (site / top).exists():
                (site / top).symlink_to(root / top)


def closure(names: Sequence[str]) -> set[str]:
    """Return these distributions and what they require, without extras."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop().split(";")[0].split("[")[0]
        name = "".join(c if c.isalnum() or c in "-_." else " " for c in name).split()[0].lower().replace("_", "-")
        if name in found:
            continue
        try:
            required = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
        waiting += [each for each in required if "extra ==" not in each]
    return found
