"""What the verbs of the command line share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def _load_plugins(names: list[str] | None) -> list[str] | None:
    from compress.plugins import load, load_installed

    load_installed()
    load(names or ())
    return names


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", metavar="FILE.py|MODULE", help="Own models, losses, runtimes.", callback=_load_plugins),
]


def print_json(value: Any) -> None:
    """Print plain data as JSON; what is no number cannot pass for one."""
    print(json.dumps(value, indent=1, allow_nan=False))


def complete_recipe(incomplete: str) -> list[str]:
    """Recipes that begin so: the shipped ones by name, files by path. Where there are none, the shell offers files."""
    from compress.utils.resources import shipped

    names = sorted(path.stem for path in shipped("recipes").glob("*.yaml"))
    folder, slash, _ = incomplete.rpartition("/")
    files = sorted(str(path) for path in Path(folder + slash or ".").glob("*.y*ml"))
    return [name for name in (*names, *files) if name.startswith(incomplete)]


def complete_kind(incomplete: str) -> list[str]:
    """What can be listed and begins so."""
    from compress.cli.catalog import KINDS

    return [kind for kind in KINDS if kind.startswith(incomplete)]
