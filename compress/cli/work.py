"""Verbs on workers: `work`, `status`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compress.cli.options import AsJson, Overrides, Plugins, RecipePath, Runs, print_json, print_rich
from compress.cli.run import NoDryRun


def work(
    recipe: RecipePath,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    no_dry_run: NoDryRun = False,
    retry: Annotated[bool, typer.Option("--retry", help="Try stages again that earlier workers gave up.")] = False,
    plugins: Plugins = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON lines.")] = False,
) -> None:
    """Make whatever stages of a recipe are free, until none is left. Start as many workers as you like, anywhere.

    They share the store of `--runs`: a folder that all machines see, or a URL. `run` measures what they made and writes
    the report.
    """
    from compress.pipeline.work import work as work_on
    from compress.recipe.load import load_recipe

    tell = (lambda line: print(line, flush=True)) if as_json else None
    work_on(load_recipe(recipe, overrides or ()), runs, dry_run_first=not no_dry_run, retry=retry, tell=tell)


def status(
    recipe: RecipePath,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Show which stages of a recipe are stored, who makes the others, and what failed."""
    from compress.pipeline.work import status as status_of
    from compress.recipe.load import load_recipe

    states = status_of(load_recipe(recipe, overrides or ()), runs)
    if as_json:
        print_json([vars(state) for state in states])
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("stage", "state", "worker", "since (UTC)", ""):
        table.add_column(title, overflow="fold")
    for each in states:
        table.add_row(each.unit, each.state, each.worker or "", each.since or "", each.detail)
    print_rich(table)


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command(epilog="Example: compress-model work quickstart --runs s3://bucket/runs")(work)
    app.command(epilog="Example: compress-model status quickstart --runs s3://bucket/runs")(status)
