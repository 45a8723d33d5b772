"""A sweep as lines and tables: for the terminal and for its page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from compress.efficiency.metric import METRIC_WORDS
from compress.gate.output import FORMATS
from compress.gate.rules import parse_metric
from compress.report import formats as f
from compress.report.tables import Column, Table, make_table
from compress.sweep.objectives import VALIDATION
from compress.sweep.records import Compute, Figures, Point, Sweep, TestedTrial, Trial
from compress.utils.messages import truncate_list

DOMINANCE = {
    "front": "on the front",
    "shown": "dominated by trial {}: shown",
    "apparent": "dominated by trial {}: apparently",
}
STOPPED = {"stopped": "stopped early", "failed": "failed", "infeasible": "refused by the recipe"}
MAX_ROWS = 20  # of trials in the terminal
MAX_REASONS = 5  # of failures


def figure_text(name: str, value: float | None) -> str:
    """Write a figure in the unit of its metric."""
    return f.percent(value) if name == VALIDATION else FORMATS[parse_metric(name).unit.name](value)


def figures_text(figures: Figures, names: Sequence[str]) -> str:
    """Write several figures in one line, those that are known."""
    return ", ".join(f"{name} {figure_text(name, figures[name])}" for name in names if name in figures)


def settings_text(settings: dict[str, str | int | float]) -> str:
    """Write settings in one line, numbers with the digits that tell them apart."""
    return f.plain(", ".join(f"{key}={setting_text(value)}" for key, value in settings.items()))


def setting_text(value: str | int | float) -> str:
    """Write a setting; numbers have four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def trial_line(trial: Trial, objectives: Sequence[str]) -> str:
    """State in one line what a trial gave."""
    took = f.seconds(trial.seconds)
    if trial.state == "failed":
        return f"trial {trial.number}: failed after {took}: {trial.reason}"
    if trial.state == "infeasible":
        return f"trial {trial.number}: refused by the recipe: {trial.reason}"
    stopped = f"; {trial.reason}" if trial.reason else ""
    return f"trial {trial.number}: {figures_text(trial.figures, objectives)}, in {took}{stopped}"


def compute_line(compute: Compute) -> str:
    """State what the search took, against what making its answer takes."""
    took = f"{f.count(compute.macs)} training MACs"
    reused = f"; {compute.reused_share:.0%} of the trials' work was reused" if compute.reused_share is not None else ""
    if compute.ratio is None:
        return f"The search took {took}{reused}."
    making = f"{f.count(compute.making_macs)} training MACs"
    return f"Finding it took {f.times(compute.ratio)} the compute of making it: {took}, against {making}{reused}."


def counts_line(sweep: Sweep) -> str:
    """State how many trials there are, and why it ended."""
    counts = {state: sum(point.state == state for point in sweep.points) for state in ("done", *STOPPED)}
    words = ", ".join(f"{count} {STOPPED.get(state, state)}" for state, count in counts.items() if count)
    size = "" if sweep.combinations is None else f" of {sweep.combinations:,} combinations"
    return f"{len(sweep.points)} trials{size}: {words or 'none'}. Ended: {f.plain(sweep.ended)}."


def sweep_lines(sweep: Sweep) -> list[str]:
    """State the answer, what the search took, and restrictions."""
    remarks = [f"{f.plain(remark)}." for remark in sweep.remarks]
    return [
        counts_line(sweep),
        *_failures(sweep),
        *remarks,
        *_test_rounds(sweep),
        compute_line(sweep.compute),
        f.plain(sweep.answer.sentence),
    ]


def _test_rounds(sweep: Sweep) -> list[str]:
    """State how often the test images were used, if more than once."""
    rounds = sweep.answer.test_rounds
    if rounds < 2:
        return []
    return [
        f"The test images were used in {rounds} rounds of tests, of other trials, tolerances or budgets: each of them "
        "grants wrongly no more often than one test, all of them together may do so more often."
    ]


def _failures(sweep: Sweep) -> list[str]:
    """State why trials failed or were refused, one line per reason."""
    failed: dict[tuple[str, str], list[str]] = {}
    for point in sweep.points:
        if point.state in ("failed", "infeasible"):
            failed.setdefault((STOPPED[point.state].capitalize(), point.reason or ""), []).append(str(point.number))
    lines = [
        f"{what}: trial{'s' * (len(numbers) > 1)} {f.plain(truncate_list(numbers))}: {f.plain(reason)}."
        for (what, reason), numbers in failed.items()
    ]
    more = len(lines) - MAX_REASONS
    return [*lines[:MAX_REASONS], f"and {more} more reason{'s' * (more > 1)}."] if more > 0 else lines


def standing(point: Point) -> str:
    """Say where a trial stands: on the front, dominated, stopped or failed."""
    if point.dominance is None:
        return STOPPED.get(point.state, "its run is gone")
    return DOMINANCE[point.dominance].format(point.dominated_by)


def trials_table(sweep: Sweep, points: Sequence[Point] | None = None) -> Table:
    """Lay out trials, those of the front first, by their first objectives."""
    rows = order(sweep) if points is None else points
    columns: list[Column[Point]] = [Column("trial", lambda point: str(point.number))]
    names = list(dict.fromkeys(key for point in sweep.points for key in point.settings))
    for name in names:
        columns.append(Column(f.plain(name), partial(_setting, name), False))
    for name in sweep.objectives:
        columns.append(Column(name, partial(_figure, name)))
    columns.append(Column("standing", standing, False))
    note = (
        "Accuracy is on validation, by which trials are selected. Shown: the trial of the front is more accurate by "
        "the paired interval on the validation images, of all dominated trials together at 95%, and costs no more. Of "
        "trials that were stopped early, figures are those of the last rung."
    )
    return make_table("trials", "Trials", note, columns, rows, empty="No trial has ended.")


def _setting(name: str, point: Point) -> str:
    return f.plain(setting_text(point.settings[name]))


def _figure(name: str, point: Point) -> str:
    return figure_text(name, point.figures.get(name))


def order(sweep: Sweep) -> list[Point]:
    """Sort trials: the front by accuracy, then the others; failed ones last."""
    ranks = {"front": 0, "apparent": 1, "shown": 1, None: 2}
    return sorted(
        sweep.points,
        key=lambda point: (
            ranks[point.dominance],
            point.state in ("failed", "infeasible"),
            -point.figures.get(VALIDATION, 0),
            point.number,
        ),
    )


def front(sweep: Sweep) -> list[Point]:
    """Return the trials of the front, the most accurate first."""
    return [point for point in order(sweep) if point.dominance == "front"][:MAX_ROWS]


def tested_table(sweep: Sweep) -> Table:
    """Lay out the trials on the test split."""
    columns: tuple[Column[TestedTrial], ...] = (
        Column("trial", lambda row: str(row.number)),
        Column("file", lambda row: f.plain(row.file), False),
        Column("top-1 on test (95% interval)", _accuracy),
        Column(
            f"points against the reference{METRIC_WORDS[sweep.answer.metric]} (95% interval)",
            lambda row: f.points(row.loss, row.loss_ci95),
        ),
        Column("accuracy", lambda row: "granted" if row.granted else "not granted", False),
        Column("why", lambda row: f.plain(row.reason), False),
    )
    note = (
        "Tested in a fixed sequence from the most expensive to the cheapest, which costs and top-1 on validation "
        "decide. It stops at the first refusal, so that all of its tests together grant wrongly no more often than "
        f"one. Rounds of tests in this sweep so far: {sweep.answer.test_rounds}."
    )
    return make_table("tested", "On the test split", note, columns, sweep.answer.tested, empty="Nothing was tested.")


def _accuracy(row: TestedTrial) -> str:
    return f.UNKNOWN if row.top1 is None or row.ci95 is None else f.accuracy(row.top1, row.ci95)
