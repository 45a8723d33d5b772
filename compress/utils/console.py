"""What a person sees while work goes on: a live bar on a terminal, one line a step elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

PLAIN_EVERY_S = 30.0
"""Seconds between two lines of one task where there is no terminal."""

_after: float | None = None

console = Console(file=sys.stderr, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print one line; nothing in it is read as markup."""
    console.print(text, markup=False)


@contextmanager
def time_after(seconds: float) -> Iterator[None]:
    """Add the seconds that come after the tasks of this block to the time left that is shown."""
    global _after
    before, _after = _after, seconds
    try:
        yield
    finally:
        _after = before


@contextmanager
def muted() -> Iterator[None]:
    """Print nothing meanwhile."""
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


@contextmanager
def task(description: str, total: int) -> Iterator[Callable[..., None]]:
    """Show progress with the time left. Yields `advance(count=1, note="")`."""
    if not console.is_terminal:
        yield _plain(description, total)
        return
    columns = (
        TextColumn("  {task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Live(*columns, console=console, transient=True) as bar:
        handle = bar.add_task(description, total=total, note="")

        def advance(count: int = 1, note: str = "") -> None:
            bar.update(handle, advance=count, note=note or bar.tasks[0].fields["note"])

        yield advance


class Live(Progress):
    """A bar, and below it what there is to say: the note of its task, and the time that all stages will take."""

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for bar in self.tasks:
            left = None if _after is None or bar.time_remaining is None else _after + bar.time_remaining
            words = [f"all stages {duration(left)}" if left else "", bar.fields["note"]]
            yield Text("    " + "; ".join(filter(None, words)), overflow="ellipsis", no_wrap=True)


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, as a person says it."""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _plain(description: str, total: int) -> Callable[..., None]:
    """A line now and then, with the time left."""
    told, done, before, words = time.monotonic(), 0, 0, ""

    def advance(count: int = 1, note: str = "") -> None:
        nonlocal told, done, before, words
        done, words, now = done + count, note or words, time.monotonic()
        if done > before and now - told >= PLAIN_EVERY_S:
            left = (now - told) / (done - before) * (total - done)
            told, before = now, done
            say(f"  {description}: {done} of {total}, about {duration(left)} left" + (f", {words}" if words else ""))

    return advance
