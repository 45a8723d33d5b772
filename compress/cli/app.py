"""The verbs of the command line: each parses, calls and prints."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from compress.cli import artifacts as cli_artifacts
from compress.cli import compare as cli_compare
from compress.cli import init as cli_start
from compress.cli import store as cli_store
from compress.cli.options import AsJson, Plugins, complete_kind, complete_recipe, print_json

app = typer.Typer(
    name="compress-model",
    help="Distil, prune, quantize, export and measure an image classifier from one recipe.",
    epilog="Example: compress-model run quickstart",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

RecipePath = Annotated[
    str,
    typer.Argument(
        help="A recipe file, or the name of a shipped recipe.", metavar="RECIPE", autocompletion=complete_recipe
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, e.g. stages.distilled.epochs=5."),
]
Runs = Annotated[Path, typer.Option("--runs", help="Folder of the runs and of the store that they share.")]


@app.callback()
def options(debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False) -> None:
    """Distil, prune, quantize, export and measure an image classifier from one recipe."""


cli_start.register(app)


@app.command(epilog="Example: compress-model run quickstart --set stages.distilled.epochs=5")
def run(
    recipe: RecipePath,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Take nothing from the store.")] = False,
    log: Annotated[str, typer.Option("--log", metavar="NAME,NAME", help="Also log fits: csv, tensorboard.")] = "",
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Run a recipe: make what the store lacks, measure, and write the report."""
    from compress.pipeline.runner import run as run_recipe
    from compress.recipe.load import load_recipe

    loggers = [name for name in log.split(",") if name]
    folder = run_recipe(load_recipe(recipe, overrides or ()), runs, fresh=fresh, loggers=loggers)
    results = json.loads((folder / "results.json").read_text())
    if as_json:
        print_json(results)
        return
    from rich.console import Console

    from compress.report import terminal_table
    from compress.results import RunRecord

    Console(highlight=False).print(terminal_table(RunRecord.model_validate(results)))
    print(f"\n{folder / 'report.html'}   report.md   model_card.md   results.json   artifacts/")


@app.command(epilog="Example: compress-model plan quickstart --set stages.pruned.target_macs=0.4")
def plan(
    recipe: RecipePath,
    overrides: Overrides = None,
    runs: Runs = Path("runs"),
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Say what would run, what is stored already, and the compute and time to expect."""
    from compress.pipeline.estimate import estimate, plan_table
    from compress.recipe.load import load_recipe

    rows = estimate(load_recipe(recipe, overrides or ()), runs)
    if as_json:
        print_json(rows)
        return
    from rich.console import Console

    Console(highlight=False).print(plan_table(rows))


@app.command(epilog="Example: compress-model validate recipes/*.yaml")
def validate(
    recipes: Annotated[
        list[str], typer.Argument(help="Recipe files.", metavar="RECIPE...", autocompletion=complete_recipe)
    ],
    overrides: Overrides = None,
    plugins: Plugins = None,
) -> None:
    """Check recipes: all mistakes at once, with file, line, and what is allowed."""
    from compress.recipe.load import load_recipe
    from compress.utils.errors import SeveralErrors, UsageError

    wrong = []
    for recipe in recipes:
        try:
            loaded = load_recipe(recipe, overrides or ())
        except UsageError as error:
            wrong.append(str(error))
        else:
            print(f"{recipe}: valid, {len(loaded.stages)} stages")
    if wrong:
        raise SeveralErrors(line for text in wrong for line in text.splitlines())


@app.command(epilog="Example: compress-model report runs/quickstart/20261123-120000")
def report(run: Annotated[Path, typer.Argument(help="Folder of a run.", metavar="RUN")]) -> None:
    """Write report.html, report.md and model_card.md again from results.json."""
    from compress.report import PAGES, write_report
    from compress.results.read import read_run
    from compress.utils.checksums import check_run, update_sums
    from compress.utils.errors import CompressError, UsageError

    path = run / "results.json"
    for remark in check_run(run):
        print(remark, file=sys.stderr)
    record = read_run(run)
    try:
        write_report(record, run)
    except (OSError, CompressError):
        raise
    except Exception as error:  # whatever a value that no run writes does to figures, tables and charts
        raise UsageError(f"{path} does not hold the results of a run ({type(error).__name__}: {error})") from error
    update_sums(run, PAGES)
    print(run / "report.html")


cli_artifacts.register(app)
cli_compare.register(app)
cli_store.register(app)


@app.command(epilog="Example: compress-model gap --basis essay --plot gap.svg")
def gap(
    basis: Annotated[
        list[str] | None, typer.Option("--basis", help="A trend; without it, all.", metavar="TREND")
    ] = None,
    start: Annotated[float, typer.Option("--start", help="Year at which both are level.")] = 2012,
    end: Annotated[float, typer.Option("--end", help="Last year.")] = 2024,
    run: Annotated[Path | None, typer.Option("--run", help="A run, whose savings are turned into months.")] = None,
    models: Annotated[
        Path | None, typer.Option("--models", help="CSV of models to fit, e.g. Epoch AI's.", metavar="FILE")
    ] = None,
    hardware: Annotated[
        Path | None, typer.Option("--hardware", help="CSV of accelerators to fit, e.g. Epoch AI's.", metavar="FILE")
    ] = None,
    since: Annotated[float, typer.Option("--since", help="First year of the points that are fitted.")] = 2010,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the trends into this .svg, .png or .pdf.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say how far training compute runs ahead of the hardware, and what a saving offsets of it."""
    from compress.gap import gap_record

    record = gap_record(basis or (), start, end, run, models, hardware, since)
    if plot:
        from compress.report.gap_chart import draw_gap

        draw_gap(record, plot)
    if as_json:
        print_json(record)
        return
    from rich.console import Console

    from compress.report.gap import gap_remarks, gap_tables

    for table in gap_tables(record):
        Console(highlight=False).print(table, "")
    for remark in gap_remarks(record):
        print(remark)


@app.command(epilog="Example: compress-model schema > recipe.schema.json")
def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print it as tables for people.")] = False,
    results: Annotated[bool, typer.Option("--results", help="That of results.json instead.")] = False,
    plugins: Plugins = None,
) -> None:
    """Print the JSON Schema of recipes, or of results.json."""
    if results:
        from compress.report.schema import results_schema

        print_json(results_schema())
        return
    if markdown:
        from compress.recipe.reference import reference

        print(reference())
        return
    from compress.recipe.json_schema import recipe_schema

    print_json(recipe_schema())


@app.command("list", epilog="Example: compress-model list students --json")
def list_names(
    what: Annotated[
        str,
        typer.Argument(
            help="teachers, students, data, trends, deployments, losses, pruners, quantizers, runtimes",
            autocompletion=complete_kind,
        ),
    ],
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """List the names that a recipe can use."""
    from compress.cli.catalog import names

    rows = names(what)
    if as_json:
        print_json(rows)
        return
    for name, about in rows.items():
        print(f"{name:<28} {about}".rstrip())


@app.command(epilog="Example: compress-model doctor")
def doctor(as_json: AsJson = False) -> None:
    """Say what this machine has, and how to add what it lacks."""
    from compress.cli.catalog import examine

    rows = examine()
    if as_json:
        print_json(rows)
        return
    for row in rows:
        mark = "ok     " if row["present"] else "broken " if row["broken"] else "absent "
        print(f"{mark} {row['name']:<28} {row['detail']}")


def main() -> None:
    """Run the command line: 0 done, 1 the work failed, 2 the call or the recipe is wrong."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    terminated = _interrupted_by(signal.SIGTERM)
    try:
        app(arguments)
    except KeyboardInterrupt:
        _stopped(terminated)
    except SystemExit as ended:
        if ended.code == 130:  # how typer ends an interrupted command, without a word
            _stopped(terminated)
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        sys.exit(_explain(error))


def _interrupted_by(number: signal.Signals) -> list[int]:
    """From now on this signal ends the work as Ctrl-C does; the list that is returned has what has arrived."""
    arrived: list[int] = []

    def interrupt(received: int, _: object) -> None:
        arrived.append(received)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(number, interrupt)
    return arrived


def _stopped(terminated: list[int]) -> NoReturn:
    print("stopped; the same command goes on from the last finished epoch", file=sys.stderr)
    sys.exit(128 + signal.SIGTERM if terminated else 128 + signal.SIGINT)


def _explain(error: Exception) -> int:
    """Print one clear line for the person, and return the exit status."""
    from compress.utils.errors import CompressError

    if isinstance(error, CompressError):
        message, status = str(error), error.exit_status
    elif _disk_is_full(error):
        message, status = "the disk is full; free some space and run the same command again: it goes on", 1
    elif _memory_is_short(error):
        message, status = "there is not enough memory; with a smaller batch the same command goes on", 1
    elif isinstance(error, OSError) and error.filename:
        message, status = f"{error.filename}: {error.strerror}", 1
    else:
        message, status = f"unexpected {type(error).__name__}: {error} (--debug shows where)", 1
    print("\n".join(f"error: {line}" for line in message.splitlines()), file=sys.stderr)
    return status


def _disk_is_full(error: Exception) -> bool:
    """Also where a library has turned the system's error into one of its own."""
    number = error.errno if isinstance(error, OSError) else None
    text = str(error)
    return number in (errno.ENOSPC, errno.EDQUOT) or any(
        words in text
        for words in ("No space left on device", "os error 28", "file write failed", "requested and 0 written")
    )


def _memory_is_short(error: Exception) -> bool:
    """Also where a library has words of its own for it, such as oneDNN's `could not create a primitive`."""
    text = str(error)
    return isinstance(error, MemoryError) or any(
        words in text
        for words in (
            "not enough memory",
            "allocate memory",
            "bad_alloc",
            "bad allocation",
            "could not create a primitive",
            "can't start new thread",
        )
    )
