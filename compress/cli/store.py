"""Verbs on the store: `store list`, `store check`, `store clean`."""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compress.cli.options import AsJson, Runs, print_json
from compress.utils.errors import UsageError

if TYPE_CHECKING:
    from compress.store.stored_entry import Entry

UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}

store = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="List, check and clean the store of finished stages."
)


@store.command("list", epilog="Example: compress-model store list --runs runs")
def list_entries(runs: Runs = Path("runs"), as_json: AsJson = False) -> None:
    """List the entries, most recently used first."""
    from compress.store.gc import entries

    _print_entries(entries(runs / "store"), runs, as_json)


@store.command(epilog="Example: compress-model store check --runs runs")
def check(runs: Runs = Path("runs"), as_json: AsJson = False) -> None:
    """Check every file's checksum. Damaged entries are named, and the exit status is then 1."""
    from compress.store.gc import check as check_store

    damaged = list(check_store(runs / "store"))
    if as_json:
        print_json(damaged)
    else:
        for line in damaged:
            print(f"error: {line}", file=sys.stderr)
    if damaged:
        raise typer.Exit(1)


@store.command(epilog="Example: compress-model store clean --keep-runs 3 --older-than 30d --dry-run")
def clean(
    runs: Runs = Path("runs"),
    keep_runs: Annotated[
        int | None, typer.Option("--keep-runs", min=0, help="Keep what the N newest runs of each recipe used.")
    ] = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="TIME", help="Unused for so long, e.g. 12h, 30d, 2w.")
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option("--max-size", metavar="SIZE", help="Least recently used first, down to e.g. 20GB."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the entries without deleting them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete entries that meet all given conditions. What a running job uses stays."""
    from compress.store.gc import clean as clean_store

    age = None if older_than is None else parse_age(older_than)
    size = None if max_size is None else parse_size(max_size)
    _print_entries(clean_store(runs, keep_runs, age, size, dry_run=dry_run), runs, as_json)
    if not as_json:
        print("nothing was deleted (--dry-run)" if dry_run else "deleted")


def parse_size(text: str) -> int:
    """Return the bytes of `500MB` or `20 GB`; `KiB` is a power of two. Other texts are a `UsageError`."""
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        return TypeAdapter(ByteSize).validate_python(text.strip())
    except ValidationError as error:
        raise UsageError(f"--max-size must be a size such as 500MB or 20GB, not {text!r}") from error


def parse_age(text: str) -> timedelta:
    """Return the time of `12h`, `30d` or `2w`; other texts are a `UsageError`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([hdw])", text.strip())
    try:
        if match:
            return float(match[1]) * UNITS[match[2]]
    except OverflowError:  # more than a billion days
        pass
    raise UsageError(f"--older-than must be a time such as 12h, 30d or 2w, not {text!r}")


def _print_entries(entries: list[Entry], runs: Path, as_json: bool) -> None:
    from compress.store.gc import keys_used_by_runs

    named = keys_used_by_runs(runs)
    if as_json:
        shown = ("key", "what", "bytes", "used_at", "unfinished")
        rows = [{name.removesuffix("_at"): getattr(entry, name) for name in shown} for entry in entries]
        print_json([{**row, "named_by_a_run": row["key"] in named} for row in rows])
        return
    for entry in entries:
        unnamed = "" if entry.key in named else " (no run names it)"
        print(f"{entry.key} {entry.bytes / 1e6:>10,.1f} MB  {entry.used_at}  {entry.what}{unnamed}")
    print(f"{len(entries)} entries, {sum(entry.bytes for entry in entries) / 1e6:,.1f} MB")


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.add_typer(store, name="store", epilog="Example: compress-model store list")
