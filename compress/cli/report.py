"""The verb `report`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def report(run: Annotated[Path, typer.Argument(help="Folder of a run.", metavar="RUN")]) -> None:
    """Rewrite the pages of a run from its results.json. They are report.html, report.md and model_card.md."""
    from compress.report import PAGES, write_report
    from compress.results.read import read_run
    from compress.utils.checksums import check_run, update_sums
    from compress.utils.errors import CompressError, UsageError

    for warning in check_run(run):
        print(warning, file=sys.stderr)
    record = read_run(run)
    try:
        write_report(record, run)
    except (OSError, CompressError):
        raise
    except Exception as error:  # whatever figures, tables and charts raise on values that no run writes
        path, kind = run / "results.json", type(error).__name__
        raise UsageError(f"{path} does not hold the results of a run ({kind}: {error})") from error
    update_sums(run, PAGES)
    print(run / "report.html")


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(epilog="Example: compress-model report runs/quickstart/20261123-120000")(report)
