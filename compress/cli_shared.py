"""What the verbs of the command line share."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def print_json(value: Any) -> None:
    """Print plain data as JSON; what is no number cannot pass for one."""
    print(json.dumps(value, indent=1, allow_nan=False))
