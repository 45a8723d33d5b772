"""`python -m compress`, and the script `compress-model`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        from compress.cli import main as run_command_line
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        sys.exit("error: the command line needs typer: pip install typer")

    run_command_line()


if __name__ == "__main__":
    main()
