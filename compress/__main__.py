"""Entry point of `python -m compress` and of the script `compress-model`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    _refuse_windows()
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


def _refuse_windows() -> None:
    """Exit with one line on Windows itself, before anything is imported that it lacks modules for."""
    from compress.utils.errors import UsageError
    from compress.utils.platform import require_supported_system

    try:
        require_supported_system()
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
