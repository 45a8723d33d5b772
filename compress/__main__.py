"""Entry point of `python -m compress` and of the script `compress-model`."""

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

    try:
        run_command_line()
    except KeyboardInterrupt:  # before the verb has started, or after it: there is nothing to resume
        sys.exit(130)


if __name__ == "__main__":
    main()
