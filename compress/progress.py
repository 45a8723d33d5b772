"""What a person sees while work goes on: a live bar on a terminal, one line a step elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(file=sys.stderr, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print one line; nothing in it is read as markup."""
    console.print(text, markup=False)


@contextmanager
def task(description: str, total: int) -> Iterator[Callable[..., None]]:
    """Show progress with the time left. Yields `advance(count=1, note="")`."""
    if not console.is_terminal:
        yield lambda count=1, note="": None
        return
    columns = (
        TextColumn("  {task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        handle = bar.add_task(description, total=total, note="")

        def advance(count: int = 1, note: str = "") -> None:
            bar.update(handle, advance=count, note=note or bar.tasks[0].fields["note"])

        yield advance
