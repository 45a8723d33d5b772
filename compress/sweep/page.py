"""The Pareto page of a sweep: one self-contained HTML file, beside it the record as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from compress.report import formats as f
from compress.report.page import html_page
from compress.sweep.chart import PARALLEL, SCATTER, costs_of, parallel_svg, scatter_svg
from compress.sweep.folder import SweepFolder
from compress.sweep.output import order, settings_text, standing, sweep_lines, tested_table, trials_table
from compress.sweep.records import Point, Sweep
from compress.utils.atomic import write_atomic

RECORD = "sweep_results.json"


@dataclass(frozen=True)
class TrialCommand:
    """How to make a trial again: its name, where it stands, the command, and the address of its report."""

    name: str
    standing: str
    command: str
    report: str | None


def sweep_page(sweep: Sweep) -> str:
    """Render the page."""
    *lines, answer = sweep_lines(sweep)
    charts = [(partial(scatter_svg, sweep, cost), SCATTER.format(cost)) for cost in costs_of(sweep)]
    found = sweep.answer.trial is not None
    charts.append((partial(parallel_svg, sweep), PARALLEL.format(", and the green one is the answer" if found else "")))
    return html_page(
        "sweep.html.j2",
        title=f.plain(f"Sweep {sweep.name} of {sweep.recipe}"),
        answer=answer,
        granted=any(row.granted for row in sweep.answer.tested if row.number == sweep.answer.trial),
        lines=lines,
        charts=charts,
        tables=[tested_table(sweep), trials_table(sweep)],
        commands=[_trial_command(point) for point in order(sweep)],
    )


def _trial_command(point: Point) -> TrialCommand:
    return TrialCommand(
        name=f"Trial {point.number}: {settings_text(point.settings)}",
        standing=standing(point) + (f": {f.plain(point.reason)}" if point.reason else ""),
        command=f.plain(point.command),
        report=f"../../{point.run}/report.html" if point.run else None,
    )


def write_sweep(sweep: Sweep, folder: SweepFolder) -> None:
    """Write page and record into the folder of a sweep; each is replaced atomically."""
    page = sweep_page(sweep)
    write_atomic(folder.path / RECORD, sweep.to_json() + "\n")
    write_atomic(folder.page, page)
