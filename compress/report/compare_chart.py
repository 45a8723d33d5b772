"""Accuracy against cost of several runs: a mark a run, and a line from where a variant was to where it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compress.report import formats as f
from compress.report.compare import NO_CLAIM
from compress.report.formats import field
from compress.report.scatter import Chart, Mark, draw_marks, telling_cost
from compress.report.svg import MARKS, chart_svg

CAPTION = (
    "Accuracy against cost, with 95% intervals. A line leads from a variant of A to the same one of another run: solid "
    "where its accuracy is shown to have moved, dotted where only the cost has, or nothing is claimed. A variant that "
    "is where it was is drawn once. Marks that would cover each other stand side by side, each with a faint line to "
    "its place."
)


def comparison_svg(record: Mapping[str, Any], labels: Sequence[str]) -> str | None:
    """The chart of a comparison, for a page with the CSS variables of the report.

    Args:
        record: What `compare` gave.
        labels: [runs], short ones.

    Returns:
        An `<svg>` element; None where no variant has accuracy and cost.
    """
    chart = comparison_chart(record, labels)
    if not chart.marks:
        return None
    return chart_svg(f"Accuracy against {chart.cost} in each run", lambda figure: draw_marks(figure, chart))


def comparison_chart(record: Mapping[str, Any], labels: Sequence[str]) -> Chart:
    """What is drawn: every variant once, with its name, and again in each run in which it is elsewhere."""
    cost, words = telling_cost(figures for variant in record["variants"] for figures in variant["runs"] if figures)
    runs = [f"{label}: {f.short(run['name'])}" for label, run in zip(labels, record["runs"], strict=True)]
    styles = {run: _style(number) for number, run in enumerate(runs)}
    marks: list[Mark] = []
    joined: list[tuple[int, int, str]] = []
    for variant in record["variants"]:
        first = None
        for run, figures, change in zip(runs, variant["runs"], variant["changes"], strict=True):
            spent, top1 = field(figures, cost), field(figures, "accuracy", "top1")
            if not spent or top1 is None:
                continue
            low, high = field(figures, "accuracy", "ci95") or (top1, top1)
            if first is None:
                first = len(marks)
                marks.append(Mark(f.short(variant["id"]), spent, top1, low, high, run))
            elif (marks[first].cost, marks[first].top1) != (spent, top1):
                if change:
                    joined.append((first, len(marks), ":" if change["top1"]["verdict"] == NO_CLAIM else "-"))
                marks.append(Mark("", spent, top1, low, high, run))
    return Chart(marks, styles, words, joined)


def _style(number: int) -> dict[str, str]:
    """A mark of its own for each run; filled for the first round of them."""
    mark, colour = MARKS[number % len(MARKS)]
    return {"marker": mark, "color": colour, "markerfacecolor": colour if number < len(MARKS) else "none"}
