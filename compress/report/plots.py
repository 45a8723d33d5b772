"""Accuracy against cost: the opening chart of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from compress.report import formats as f
from compress.report.savings import grant_label
from compress.report.scatter import Chart, Cost, Mark, Style, distinguishing_cost, draw_marks
from compress.report.svg import BAD, GOOD, INK, LINE, MUTED, chart_svg
from compress.results import RunRecord, Savings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_LINES = 8

_STYLES: Mapping[str, Style] = {
    "reference": {"marker": "D", "color": INK, "markerfacecolor": INK},
    "granted": {"marker": "o", "color": GOOD, "markerfacecolor": GOOD},
    "as accurate, not cheaper": {"marker": "s", "color": MUTED, "markerfacecolor": MUTED},
    "not granted": {"marker": "o", "color": BAD, "markerfacecolor": "none"},
}


def accuracy_cost_svg(record: RunRecord, savings: Savings) -> str | None:
    """Draw accuracy against cost (log scale), with doublings against the reference as grid lines.

    The cost is MACs; where most variants differ in bit operations alone, these.
    `savings` names the reference and what is granted.

    Returns:
        An `<svg>` element for an HTML page with the CSS variables `--ink`, `--muted`, `--line`, `--good` and `--bad`;
        None without a reference and a variant to compare.
    """
    cost = distinguishing_cost(variant.inference for variant in record.variants)
    marks = _marks(record, savings, cost)
    reference = next((mark for mark in marks if mark.style == "reference"), None)
    if reference is None or len(marks) < 2:
        return None
    chart = Chart(marks, _STYLES, cost.label, decorate=lambda axes: _draw_doublings(axes, marks, reference))
    title = f"Accuracy against {cost.label}, reference {reference.name}"
    return chart_svg(title, lambda figure: draw_marks(figure, chart))


def _marks(record: RunRecord, savings: Savings, cost: Cost) -> list[Mark]:
    styles = {variant.id: grant_label(variant) for variant in savings.variants} | {savings.reference: "reference"}
    return [
        Mark(f.short(v.id), spent, v.accuracy.top1, *v.accuracy.ci95, styles.get(v.id, "not granted"))
        for v in record.variants
        if (spent := cost.of(v.inference))
    ]


def _draw_doublings(axes: Axes, marks: list[Mark], reference: Mark) -> None:
    exact = [math.log2(reference.cost / mark.cost) for mark in marks]
    first, last = math.floor(min(exact) - 0.3), math.ceil(max(exact) + 0.3)
    step = 1 + (last - first) // _MAX_LINES
    axes.set_xlim(reference.cost / 2 ** (last + 0.15), reference.cost / 2 ** (first - 0.15))
    lines = [k for k in range(first, last + 1) if k % step == 0]
    for k in lines:
        axes.axvline(reference.cost / 2**k, color=LINE, linewidth=1.6 if k == 0 else 0.9, zorder=1)
        axes.annotate(
            f"{k:+d}".replace("-", "−") if k else "0",
            (reference.cost / 2**k, 1),
            xycoords=axes.get_xaxis_transform(),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            color=MUTED,
        )
    axes.set_title(f"doublings against {reference.name}", color=MUTED, pad=22)
