"""Charts of the ledgers: the lifetime ratio and the gap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.efficiency.lifetime import cached_queries, lifetime_ratio
from compress.report import formats as f
from compress.report.gap_chart import Look, draw_trends
from compress.report.savings import lifetimes
from compress.report.svg import (
    GOOD,
    INK,
    LINE,
    MUTED,
    STYLES,
    TEXT,
    chart_svg,
    count_axis,
    legend,
    plain_axes,
)
from compress.results import Lifetime, Savings, VariantSavings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from compress.gap.record import Basis


def lifetime_svg(savings: Savings) -> str | None:
    """Draw the lifetime ratio against queries, its limit, and the break-even point of every variant that is granted."""
    granted = lifetimes(savings)
    if not granted:
        return None
    reference = f.plain(savings.reference)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(xscale="log")
        for number, (variant, life) in enumerate(granted):
            _draw_lifetime(axes, variant, life, STYLES[number % len(STYLES)])
        axes.axhline(1, color=LINE, linewidth=1.4, zorder=1)
        count_axis(axes.xaxis)
        axes.set_xlabel("queries (log scale)", color=MUTED)
        axes.set_ylabel(f"lifetime ratio to {reference}", color=MUTED)
        plain_axes(axes)
        legend(figure)

    return chart_svg(f"Lifetime against {reference}", draw)


def _draw_lifetime(axes: Axes, variant: VariantSavings, life: Lifetime, style: str) -> None:
    queries, cost = [10 ** (k / 8) for k in range(24, 8 * 12 + 1)], life.query_macs
    made = life.reference_training, life.variant_training
    ratios = [lifetime_ratio(cached_queries(q, life.hit_rate), cost.reference, cost.variant, *made) for q in queries]
    label = f"{f.plain(variant.id)}, limit {f.times(life.limit)}"
    if (paid := variant.break_even_queries) and paid >= queries[0]:
        axes.plot([paid], [1], marker="o", color=GOOD, markersize=7, zorder=4)
        label += f", pays off after {f.queries(paid)}"
    axes.plot(queries, ratios, color=INK, linestyle=style, label=label)


def gap_svg(basis: Basis, start: float, end: float) -> str | None:
    """Draw the recipe's trend, and what the run's saving in training compute takes off it, once."""
    if not basis.gap:
        return None
    look = Look(compute=INK, hardware=(MUTED,), gap=MUTED, saving=GOOD, text=MUTED, size=TEXT, room=0.6)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(yscale="log")
        draw_trends(axes, [basis], start, end, look)
        count_axis(axes.yaxis)
        plain_axes(axes)
        legend(figure, 1)

    return chart_svg(f"The compute gap by {f.plain(basis.name)}", draw)
