"""Verbs on recipes: `run`, `plan`, `validate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from compress.cli.options import (
    AsJson,
    Overrides,
    Plugins,
    RecipePath,
    RecipePaths,
    Runs,
    command_line,
    finite,
    print_json,
    print_rich,
    print_text,
)
from compress.registry import TRACKERS

NoDryRun = Annotated[bool, typer.Option("--no-dry-run", help="Do not try the stages on a few images first.")]

Engine = Annotated[
    str, typer.Option("--engine", metavar="ENGINE", help="Where stages are made: local, ray or ray://HOST:PORT.")
]


def run(
    recipe: RecipePath,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Ignore what earlier runs stored.")] = False,
    log: Annotated[
        str,
        typer.Option(
            "--log",
            metavar="NAME,NAME",
            help=f"Also log fits, results and settings to trackers: {', '.join(TRACKERS)}.",
        ),
    ] = "",
    no_dry_run: NoDryRun = False,
    engine: Engine = "local",
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Run a recipe and write its report. Stages that the store has are not run again."""
    from compress.pipeline.runner import run as run_recipe
    from compress.recipe.load import load_recipe

    loggers = [name.strip() for name in log.split(",") if name.strip()]
    command = command_line(sys.argv)
    loaded = load_recipe(recipe, overrides or ())
    done = run_recipe(
        loaded,
        runs,
        fresh=fresh,
        dry_run_first=not no_dry_run,
        loggers=loggers,
        command=command,
        engine=engine,
    )
    if done is None:  # a further process of a run on several devices
        return
    if as_json:
        print_json(done.record.model_dump(mode="json"))
        return
    from compress.report import terminal_table
    from compress.report.headline import deployment_line, sentence
    from compress.report.remarks import warnings

    print_rich(terminal_table(done.record))
    print_text(
        sentence(done.record),
        deployment_line(done.record),
        *(f"Warning: {each}" for each in warnings(done.record)),
    )
    print(f"\n{done.folder / 'report.html'}   report.md   model_card.md   results.json   artifacts/")


def plan(
    recipe: RecipePath,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    no_dry_run: NoDryRun = False,
    price: Annotated[
        float | None,
        typer.Option(
            "--price-per-hour",
            metavar="X",
            min=0,
            help="Price of an hour of this machine, in any currency.",
            callback=finite,
        ),
    ] = None,
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Estimate the compute and time of a run. Stages that the store has take none.

    Of data that a manifest lists, no shard is opened.
    """
    from compress.data.planned_manifest import has_manifest
    from compress.pipeline.cost_model import estimate, plan_summary, plan_table
    from compress.recipe.load import load_recipe

    loaded = load_recipe(recipe, overrides or ())
    rows = estimate(loaded, runs, dry_run_first=not no_dry_run)
    if as_json:
        priced = [{} if price is None else {"price": round(row.seconds / 3600 * price, 4)} for row in rows]
        print_json([vars(row) | extra for row, extra in zip(rows, priced, strict=True)])
        return
    print_rich(plan_table(rows))
    if price is not None or has_manifest(loaded.data):
        print_text(*plan_summary(rows, price))


def validate(
    recipes: RecipePaths,
    overrides: Overrides = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also read the data and try every stage on a few images.")
    ] = False,
    runs: Runs = Path("runs"),
    plugins: Plugins = None,
) -> None:
    """Validate recipes. Every mistake is listed, with file, line and what is allowed."""
    from compress.recipe.load import load_recipe
    from compress.utils.errors import CompressError, SeveralErrors

    problems: list[str] = []
    for recipe in recipes:
        try:
            loaded = load_recipe(recipe, overrides or ())
            if deep:
                from compress.pipeline.dry_run import try_recipe

                try_recipe(loaded, runs)
        except CompressError as error:  # also of a checkpoint or an image that cannot be read
            problems += (line if recipe in line else f"{recipe}: {line}" for line in str(error).splitlines())
        else:
            print(f"{recipe}: valid, {len(loaded.stages)} stages")
    if problems:
        raise SeveralErrors(problems)


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command(epilog="Example: compress-model run quickstart --set stages.distilled.epochs=5")(run)
    app.command(epilog="Example: compress-model plan quickstart --set stages.pruned.target_macs=0.4")(plan)
    app.command(epilog="Example: compress-model validate recipes/*.yaml")(validate)
