"""The verb `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compress.cli.options import AsJson, print_json, print_rich


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, two or more.", metavar="RUN...")],
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the comparison as a page.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs with the first one. Shows what changed in the recipe and which results moved."""
    from compress.report.compare import compare as compare_runs
    from compress.report.compare_page import change_lines, remark_lines, terminal_tables, write_comparison

    record = compare_runs(runs)
    if html:
        write_comparison(record, html)
    if as_json:
        print_json(record.model_dump(mode="json"))
        return
    print_rich(*terminal_tables(record))
    for line in (*remark_lines(record), *change_lines(record)):
        print(line)


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    runs = "runs/quickstart/20261123-120000 runs/quickstart/20261124-090000"
    app.command(epilog=f"Example: compress-model compare {runs} --html moved.html")(compare)
