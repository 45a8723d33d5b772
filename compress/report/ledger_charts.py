"""Charts of the ledgers: training compute by part, accuracy against compute, the lifetime ratio, and the gap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.efficiency.lifetime import cached_queries, lifetime_ratio
from compress.report import formats as f
from compress.report.gap_chart import Look, draw_trends
from compress.report.savings import lifetimes
from compress.report.svg import (
    BAD,
    GOOD,
    INK,
    LINE,
    MUTED,
    STYLES,
    TEXT,
    chart_svg,
    legend,
    log_axis,
    percent_axis,
    plain_axes,
)
from compress.results import Lifetime, RunRecord, Savings, VariantSavings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

    from compress.gap.record import Basis

MAX_NAME_LENGTH = 44


def spent_svg(record: RunRecord) -> str | None:
    """Draw the training compute of the most expensive variant as a waterfall."""
    variant = max(record.variants, key=lambda variant: variant.training.macs, default=None)
    parts = [part for part in variant.training.parts if part.macs] if variant else []
    if variant is None or len(parts) < 2:
        return None
    name = f.plain(variant.id)

    def draw(figure: Figure) -> None:
        axes, before = figure.add_subplot(), 0
        for row, part in enumerate(parts):
            axes.barh(row, part.macs, left=before, color=MUTED if "teacher" in part.what else INK, height=0.4)
            if row:
                axes.plot([before, before], [row - 1, row], color=LINE, linewidth=1)
            axes.annotate(
                f.short(part.what, MAX_NAME_LENGTH),
                (0, row - 0.24),
                xycoords=("axes fraction", "data"),
                xytext=(4, 1),
                textcoords="offset points",
                color=INK,
                va="bottom",
            )
            before += part.macs
        axes.set_yticks([])
        axes.set_ylim(len(parts) - 0.6, -0.8)
        _count_axis(axes.xaxis)
        axes.set_xlabel(f"training MACs of {name}", color=MUTED)
        plain_axes(axes)

    return chart_svg(f"Where the training compute of {name} went", draw, 1 + 0.5 * len(parts))


def curves_svg(record: RunRecord) -> str | None:
    """Draw validation accuracy against training compute for every variant that the training efficiency compares."""
    pairs = record.training_efficiency
    baselines = {pair.baseline for pair in pairs}
    compared = baselines | {pair.variant for pair in pairs}
    curves = {v.id: v.training.curve for v in record.variants if v.id in compared and v.training.curve}
    if not curves:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(xscale="log")
        for number, (name, curve) in enumerate(curves.items()):
            xs, ys = zip(*sorted((point.macs, point.top1) for point in curve), strict=True)
            colour, style = (BAD if name in baselines else INK), STYLES[number % len(STYLES)]
            axes.plot(xs, ys, color=colour, linestyle=style, marker="o", markersize=3, label=f.plain(name))
        for target in sorted({pair.target_top1 for pair in pairs}):
            axes.axhline(target, color=LINE, linewidth=1, zorder=1)
        points = [point for curve in curves.values() for point in curve]
        spent, reached = [point.macs for point in points], [point.top1 for point in points]
        percent_axis(axes.yaxis, max(reached) - min(reached))
        log_axis(axes.xaxis, min(spent), max(spent), f.count)
        axes.set_xlabel("training MACs (log scale)", color=MUTED)
        axes.set_ylabel("top-1 on validation", color=MUTED)
        plain_axes(axes)
        legend(figure)

    return chart_svg("Accuracy against training compute", draw)


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
        _count_axis(axes.xaxis)
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
        _count_axis(axes.yaxis)
        plain_axes(axes)
        legend(figure, 1)

    return chart_svg(f"The compute gap by {f.plain(basis.name)}", draw)


def _count_axis(axis: Axis) -> None:
    """Label ticks with a prefix, 10 M, in place of powers of ten."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f.count(value)))
    axis.set_minor_formatter(NullFormatter())
