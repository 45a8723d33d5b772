"""The verb `gate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compress.cli.options import AsJson, Plugins, print_json, print_rich, print_text


def gate(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or its results.json.", metavar="RUN")],
    against: Annotated[
        Path, typer.Option("--against", metavar="RUN|FILE", help="Baseline: a run, or its results.json.")
    ],
    rules: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            metavar="RULE",
            help="Bound, e.g. top1>=-0.5pt, latency.openvino.16<=+5% or size<=10MB; "
            "default: top1 and top1.* may lose 1pt, size and macs grow by 1%.",
        ),
    ] = None,
    variants: Annotated[
        list[str] | None,
        typer.Option("--variant", metavar="ID", help="Variant to check; default: all that both runs have."),
    ] = None,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML.")] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Write Markdown for a pull request.")
    ] = None,
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Check a run against a baseline, for CI. Exit status: 0 pass, 3 fail, 4 cannot tell."""
    from compress.gate.gate import gate as check
    from compress.gate.output import gate_junit, gate_lines, gate_markdown, gate_table
    from compress.report.tables import to_rich
    from compress.utils.outputs import require_writable, write_output

    for path, option in ((junit, "--junit"), (markdown, "--markdown")):
        if path:
            require_writable(path, option)
    record = check(run, against, rules or (), variants or ())
    for path, render in ((junit, gate_junit), (markdown, gate_markdown)):
        if path:
            write_output(path, render(record))
    if as_json:
        print_json(record.model_dump(mode="json"))
    else:
        if record.checks:
            print_rich(to_rich(gate_table(record)))
        print_text(*gate_lines(record))
    if record.exit_status:
        raise typer.Exit(record.exit_status)


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    run = "runs/quickstart/20261124-090000"
    app.command(epilog=f"Example: compress-model gate {run} --against baseline.json --rule 'top1>=-0.5pt'")(gate)
