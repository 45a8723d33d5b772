"""The verbs on the store. Like the others, each parses, calls and prints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from compress.cli.options import AsJson, print_json

Runs = Annotated[Path, typer.Option("--runs", help="Folder of the runs and of the store that they share.")]

store = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at what stages made, and make room.")


@store.command("list", epilog="Example: compress-model store list --runs runs")
def list_entries(runs: Runs = Path("runs"), as_json: AsJson = False) -> None:
    """List the entries, those used last first: size, when a run used it last, what it is."""
    from compress.store.gc import as_records, entries, named_by_runs

    _print(as_records(entries(runs / "store"), named_by_runs(runs)), as_json)


@store.command(epilog="Example: compress-model store check --runs runs")
def check(runs: Runs = Path("runs"), as_json: AsJson = False) -> None:
    """Read every file of the store, and name what is damaged; the exit status is then 1."""
    from compress.store.gc import check as check_store

    damaged = list(check_store(runs / "store"))
    if as_json:
        print_json(damaged)
    for line in () if as_json else damaged:
        print(f"error: {line}", file=sys.stderr)
    if damaged:
        raise typer.Exit(1)


@store.command(epilog="Example: compress-model store clean --keep-runs 3 --older-than 30d --dry-run")
def clean(
    runs: Runs = Path("runs"),
    keep_runs: Annotated[
        int | None, typer.Option("--keep-runs", min=0, help="What the N newest runs of each recipe used stays.")
    ] = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="TIME", help="Not used for 12h, 30d, 2w.")
    ] = None,
    max_size: Annotated[
        str | None, typer.Option("--max-size", metavar="SIZE", help="Longest unused first, until there are 20GB.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete entries of which all that is asked for holds. What a running job uses stays."""
    from compress.store.gc import as_records, named_by_runs, parse_age, parse_size
    from compress.store.gc import clean as clean_store

    age = parse_age(older_than) if older_than else None
    size = parse_size(max_size) if max_size else None
    gone = clean_store(runs, keep_runs, age, size, dry_run=dry_run)
    _print(as_records(gone, named_by_runs(runs)), as_json)
    if not as_json:
        print("nothing was deleted (--dry-run)" if dry_run else "deleted")


def _print(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    for row in rows:
        named = "" if row["named_by_a_run"] else " (no run names it)"
        print(f"{row['key']} {row['bytes'] / 1e6:>10,.1f} MB  {row['used']}  {row['what']}{named}")
    print(f"{len(rows)} entries, {sum(row['bytes'] for row in rows) / 1e6:,.1f} MB")


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.add_typer(store, name="store", epilog="Example: compress-model store list")
