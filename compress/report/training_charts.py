"""Charts of training: its compute by part, and accuracy against compute."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.report import formats as f
from compress.report.svg import (
    BAD,
    INK,
    LINE,
    MUTED,
    STYLES,
    chart_svg,
    count_axis,
    legend,
    log_axis,
    percent_axis,
    plain_axes,
)
from compress.results import RunRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
        count_axis(axes.xaxis)
        axes.set_xlabel(f"training MACs of {name}", color=MUTED)
        plain_axes(axes)

    return chart_svg(f"Where the training compute of {name} went", draw, 1 + 0.5 * len(parts))


def curves_svg(record: RunRecord) -> str | None:
    """Draw validation accuracy against training compute for every variant that the training efficiency compares."""
    pairs = record.training_efficiency
    baselines = {name for pair in pairs for name in (pair.baseline, pair.baseline_curve) if name}
    compared = baselines | {pair.variant_curve or pair.variant for pair in pairs}
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
