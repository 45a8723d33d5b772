"""The verb `gap`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compress.cli.options import AsJson, finite, print_json, print_rich, print_text


def gap(
    basis: Annotated[
        list[str] | None, typer.Option("--basis", help="Trend to use; default: all.", metavar="TREND")
    ] = None,
    start: Annotated[
        float, typer.Option("--start", help="Year in which compute and hardware are level.", callback=finite)
    ] = 2012,
    end: Annotated[
        float | None,
        typer.Option(
            "--end", help="Last year; default: the current date, or the end of a trend's data.", callback=finite
        ),
    ] = None,
    run: Annotated[Path | None, typer.Option("--run", help="Run whose savings to convert into months.")] = None,
    models: Annotated[
        Path | None, typer.Option("--models", help="CSV of models to fit, e.g. Epoch AI's.", metavar="FILE")
    ] = None,
    hardware: Annotated[
        Path | None, typer.Option("--hardware", help="CSV of accelerators to fit, e.g. Epoch AI's.", metavar="FILE")
    ] = None,
    since: Annotated[
        float, typer.Option("--since", help="Year of the earliest points to fit.", callback=finite)
    ] = 2010,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the trends to a .svg, .png or .pdf file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show how far training compute outgrows hardware. With --run, also the months that its savings offset."""
    from compress.gap import gap_record, to_dict
    from compress.report.gap_chart import draw_gap, require_chart

    if plot:
        require_chart(plot)
    record = gap_record(basis or (), start, end, run, models, hardware, since)
    if plot:
        draw_gap(record, plot)
    if as_json:
        print_json(to_dict(record))
        return
    from compress.report.gap import gap_remarks, gap_summary, gap_tables

    if record.results:
        from compress.report.headline import sentence

        print_text(sentence(record.results))
        print()
    if summary := gap_summary(record):
        print_text(summary)
        print()
    for table in gap_tables(record):
        print_rich(table, "")
    print_text(*gap_remarks(record))


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(epilog="Example: compress-model gap --basis essay --plot gap.svg")(gap)
