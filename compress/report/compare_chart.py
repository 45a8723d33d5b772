"""Accuracy against cost of several runs: a mark per run, and a line from where a variant was to where it is."""

from __future__ import annotations

from collections.abc import Sequence

from compress.report import formats as f
from compress.report.comparison import NO_CLAIM, Comparison
from compress.report.scatter import Chart, Mark, Style, distinguishing_cost, draw_marks
from compress.report.svg import MARKS, chart_svg

CAPTION = (
    "Accuracy against cost, with 95% intervals. A line leads from a variant of A to the same one of another run: solid "
    "where its accuracy is shown to have changed, dotted where only its cost has or there is no claim. A variant that "
    "did not move is drawn once. Overlapping marks are spread side by side, each joined to its place by a faint line."
)


def comparison_svg(comparison: Comparison, labels: Sequence[str]) -> str | None:
    """Draw a comparison with short `labels` of its runs, with the report's CSS variables; None without a cost."""
    chart = comparison_chart(comparison, labels)
    if not chart.marks:
        return None
    return chart_svg(f"Accuracy against {chart.cost} in each run", lambda figure: draw_marks(figure, chart))


def comparison_chart(comparison: Comparison, labels: Sequence[str]) -> Chart:
    """Lay out the marks: every variant once, with its name, and again in each run in which it moved."""
    cost = distinguishing_cost(figures for variant in comparison.variants for figures in variant.runs if figures)
    runs = [f"{label}: {f.short(run.name)}" for label, run in zip(labels, comparison.runs, strict=True)]
    marks: list[Mark] = []
    joined: list[tuple[int, int, str]] = []
    for variant in comparison.variants:
        first = None
        for run, figures, change in zip(runs, variant.runs, variant.changes, strict=True):
            if figures is None or not (spent := cost.of(figures)):
                continue
            top1, ends = figures.accuracy.top1, figures.accuracy.ci95
            if first is None:
                first = len(marks)
                marks.append(Mark(f.short(variant.id), spent, top1, *ends, run))
            elif (marks[first].cost, marks[first].top1) != (spent, top1):
                if change:
                    joined.append((first, len(marks), ":" if change.top1.verdict == NO_CLAIM else "-"))
                marks.append(Mark("", spent, top1, *ends, run))
    return Chart(marks, {run: _style(number) for number, run in enumerate(runs)}, cost.label, joined)


def _style(number: int) -> Style:
    """A marker per run, filled for the first round of them."""
    marker, colour = MARKS[number % len(MARKS)]
    return {"marker": marker, "color": colour, "markerfacecolor": colour if number < len(MARKS) else "none"}
