"""Accuracy against cost: the chart that the report opens with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compress.report import formats as f
from compress.report.formats import field
from compress.report.scatter import Chart, Mark, Style, draw_marks, telling_cost
from compress.report.svg import BAD, GOOD, INK, LINE, MUTED, chart_svg
from compress.report.tables import grant_word

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_LINES = 8

_STYLES: Mapping[str, Style] = {
    "reference": {"marker": "D", "color": INK, "markerfacecolor": INK},
    "granted": {"marker": "o", "color": GOOD, "markerfacecolor": GOOD},
    "as accurate, not cheaper": {"marker": "s", "color": MUTED, "markerfacecolor": MUTED},
    "not granted": {"marker": "o", "color": BAD, "markerfacecolor": "none"},
}


def accuracy_cost_svg(results: Mapping[str, Any], entry: Mapping[str, Any]) -> str | None:
    """Accuracy against cost (log scale), doublings against the reference as grid lines, granted or not marked.

    The cost is MACs; where most variants differ in bit operations alone, these.

    Args:
        results: A `results.json`.
        entry: The entry of its `efficiency` that says what the reference is and what is granted.

    Returns:
        An `<svg>` element to stand in an HTML page that has the CSS variables `--ink`, `--muted`, `--line`, `--good`
        and `--bad`; None where the reference or every other variant lacks accuracy or MACs.
    """
    cost, words = telling_cost(variant.get("inference") or {} for variant in results.get("variants") or [])
    marks = _marks(results, entry, cost)
    reference = next((mark for mark in marks if mark.style == "reference"), None)
    if reference is None or len(marks) < 2:
        return None
    chart = Chart(marks, _STYLES, words, also=lambda axes: _draw_doublings(axes, marks, reference))
    return chart_svg(f"Accuracy against {words}, reference {reference.name}", lambda figure: draw_marks(figure, chart))


def _marks(results: Mapping[str, Any], entry: Mapping[str, Any], cost: str) -> list[Mark]:
    words = {record.get("id"): grant_word(record) for record in entry.get("variants") or []}
    marks = []
    for variant in results.get("variants") or []:
        spent, top1 = field(variant, "inference", cost), field(variant, "accuracy", "top1")
        if not spent or top1 is None:
            continue
        low, high = field(variant, "accuracy", "ci95") or (top1, top1)
        is_reference = variant.get("id") == entry.get("reference")
        state = "reference" if is_reference else words.get(variant.get("id"), "not granted")
        marks.append(Mark(f.short(variant.get("id")), spent, top1, low, high, state))
    return marks


def _draw_doublings(axes: Axes, marks: list[Mark], reference: Mark) -> None:
    exact = [math.log2(reference.cost / mark.cost) for mark in marks]
    first, last = math.floor(min(exact) - 0.3), math.ceil(max(exact) + 0.3)
    step = 1 + (last - first) // _MOST_LINES
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
