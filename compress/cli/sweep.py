"""The verb `sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compress.cli.options import (
    AsJson,
    Overrides,
    Plugins,
    RecipePath,
    Runs,
    finite,
    print_json,
    print_rich,
    print_text,
)
from compress.cli.run import Engine, NoDryRun


def sweep(
    recipe: RecipePath,
    space: Annotated[
        Path,
        typer.Option(
            "--space",
            metavar="FILE",
            help="Parameters, objectives and sampler: a YAML file, or the name of a shipped space.",
        ),
    ],
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the sweep; default: RECIPE-SPACE.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option("--trials", min=0, help="End after so many trials; 0: only write the page again.")
    ] = None,
    hours: Annotated[
        float | None, typer.Option("--hours", min=0, help="Begin no trial after so many hours.", callback=finite)
    ] = None,
    macs: Annotated[
        str | None, typer.Option("--macs", metavar="MACS", help="Begin no trial after so many training MACs, e.g. 2P.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="RULE,RULE", help="Bounds, e.g. latency.openvino.1<=5ms,size<=10MB."),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance", metavar="FRACTION", help="Find the cheapest that loses no more, e.g. 0.01.", callback=finite
        ),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Make trials that failed again.")] = False,
    no_dry_run: NoDryRun = False,
    engine: Engine = "local",
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Search settings of a recipe, and write a Pareto page. Any number of processes may work on one sweep."""
    from functools import partial

    from compress.pipeline.on_ray import check_engine
    from compress.report.tables import to_rich
    from compress.sweep.job import Limits, make_run, parse_macs, read_job
    from compress.sweep.output import front, sweep_lines, trials_table
    from compress.sweep.run import run_sweep

    check_engine(engine, several_processes=False)
    job = read_job(
        recipe,
        space,
        runs,
        overrides=overrides or (),
        name=name,
        limits=Limits(trials, hours, parse_macs(macs) if macs is not None else None),
        budget=budget,
        tolerance=tolerance,
        make=partial(make_run, dry_run_first=not no_dry_run, engine=engine),
        plugins=plugins or (),
    )
    found = run_sweep(job, retry_failed=retry_failed)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    print_rich(to_rich(trials_table(found, front(found))))
    print_text(*sweep_lines(found))
    if found.answer.command:
        print(found.answer.command)
    print(f"\n{job.folder.page}")


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(epilog="Example: compress-model sweep quickstart --space quickstart --trials 20")(sweep)
