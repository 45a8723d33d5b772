"""Progress on the console: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

PLAIN_EVERY_S = 30.0  # seconds between two lines of one task where there is no terminal

_after: float | None = None
_watcher: Callable[[str, int, int], None] | None = None

console = Console(file=sys.stderr, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print one line to stderr, without interpreting markup."""
    console.print(text, markup=False)


@contextmanager
def time_after(seconds: float) -> Iterator[None]:
    """Add the seconds that come after the tasks of this block to the remaining time that is shown."""
    global _after
    before, _after = _after, seconds
    try:
        yield
    finally:
        _after = before


@contextmanager
def watched(watcher: Callable[[str, int, int], None]) -> Iterator[None]:
    """Call `watcher(description, done, total)` when a task of this block starts, and whenever it advances."""
    global _watcher
    before, _watcher = _watcher, watcher
    try:
        yield
    finally:
        _watcher = before


@contextmanager
def muted() -> Iterator[None]:
    """Print nothing in this block."""
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


@contextmanager
def task(description: str, total: int, completed: int = 0, *, bar: bool = True) -> Iterator[Callable[..., None]]:
    """Show progress and the remaining time. Yields `advance(count=1, note="")`.

    Args:
        completed: How many of the `total` were done before, by a process that was interrupted.
        bar: Whether a terminal shows a bar; without, it shows lines now and then, as other outputs do.
    """
    shown = _bar if bar and console.is_terminal else _plain
    with shown(description, total, completed) as advance:
        yield advance if _watcher is None else _telling(_watcher, advance, description, total, completed)


def _telling(
    watcher: Callable[[str, int, int], None], advance: Callable[..., None], description: str, total: int, done: int
) -> Callable[..., None]:
    watcher(description, done, total)

    def advance_and_tell(count: int = 1, note: str = "") -> None:
        nonlocal done
        done += count
        advance(count, note)
        watcher(description, done, total)

    return advance_and_tell


@contextmanager
def _bar(description: str, total: int, completed: int) -> Iterator[Callable[..., None]]:
    columns = (
        TextColumn("  {task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Live(*columns, console=console, transient=True) as bar:
        handle = bar.add_task(description, total=total, completed=completed, note="")

        def advance(count: int = 1, note: str = "") -> None:
            bar.update(handle, advance=count, note=note or bar.tasks[0].fields["note"])

        yield advance


class Live(Progress):
    """A progress bar with a line below it: the remaining time of all stages, and the note of the task."""

    def get_renderables(self) -> Iterator[RenderableType]:
        """Yield the bar and its line."""
        yield self.make_tasks_table(self.tasks)
        for bar in self.tasks:
            left = None if _after is None or bar.time_remaining is None else _after + bar.time_remaining
            parts = [f"all stages {duration(left)}" if left else "", bar.fields["note"]]
            yield Text("    " + "; ".join(filter(None, parts)), overflow="ellipsis", no_wrap=True)


def duration(seconds: float) -> str:
    """Format a duration in seconds, minutes or hours."""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.0f} s"


def size_text(size: float) -> str:
    """Format a number of bytes in GB, or in TB from 1 TB on."""
    return f"{size / 1e12:,.2f} TB" if size >= 1e12 else f"{size / 1e9:,.2f} GB"


@contextmanager
def _plain(description: str, total: int, completed: int) -> Iterator[Callable[..., None]]:
    """Yield an `advance` that prints a line every `PLAIN_EVERY_S` seconds."""
    printed_at, done, done_before, last_note = time.monotonic(), completed, completed, ""

    def advance(count: int = 1, note: str = "") -> None:
        nonlocal printed_at, done, done_before, last_note
        done, last_note, now = done + count, note or last_note, time.monotonic()
        if done > done_before and now - printed_at >= PLAIN_EVERY_S:
            left = (now - printed_at) / (done - done_before) * (total - done)
            printed_at, done_before = now, done
            suffix = f", {last_note}" if last_note else ""
            say(f"  {description}: {done} of {total}, about {duration(left)} left{suffix}")

    yield advance
