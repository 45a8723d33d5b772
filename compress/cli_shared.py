"""What the verbs of the command line share."""

from __future__ import annotations

import json
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
