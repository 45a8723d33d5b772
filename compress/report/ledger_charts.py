"""Charts of the ledgers: where training compute went, accuracy against compute, the life, and the gap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compress.efficiency.lifetime import cached_queries, lifetime_ratio
from compress.report import formats as f
from compress.report.formats import field
from compress.report.gap_chart import Look, draw_trends
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
from compress.report.tables import is_saving

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Record = dict[str, Any]

MAX_NAME_LENGTH = 44


def spent_svg(results: Mapping[str, Any]) -> str | None:
    """A waterfall of the training compute of the variant with the longest way."""
    variants = results.get("variants") or []
    variant: Record = max(variants, key=lambda v: field(v, "training", "macs") or 0, default={})
    parts = [part for part in field(variant, "training", "parts") or [] if part.get("macs")]
    if len(parts) < 2:
        return None

    def draw(figure: Figure) -> None:
        axes, before = figure.add_subplot(), 0.0
        for row, part in enumerate(parts):
            colour = MUTED if "teacher" in str(part["what"]) else INK
            axes.barh(row, part["macs"], left=before, color=colour, height=0.4)
            if row:
                axes.plot([before, before], [row - 1, row], color=LINE, linewidth=1)
            above: dict[str, Any] = {
                "xycoords": ("axes fraction", "data"),
                "xytext": (4, 1),
                "textcoords": "offset points",
            }
            axes.annotate(f.short(part["what"], MAX_NAME_LENGTH), (0, row - 0.24), color=INK, va="bottom", **above)
            before += part["macs"]
        axes.set_yticks([])
        axes.set_ylim(len(parts) - 0.6, -0.8)
        _counted(axes.xaxis)
        axes.set_xlabel(f"MACs spent until {f.plain(variant['id'])}", color=MUTED)
        plain_axes(axes)

    label = f"Where the training compute of {f.plain(variant['id'])} went"
    return chart_svg(label, draw, 1 + 0.5 * len(parts))


def curves_svg(results: Mapping[str, Any]) -> str | None:
    """Validation accuracy against training compute, of every variant that the training efficiency compares."""
    pairs = [pair for pair in results.get("training_efficiency") or [] if pair.get("target_top1") is not None]
    baselines = {pair["baseline"] for pair in pairs}
    compared = baselines | {pair["variant"] for pair in pairs}
    curves = {v.get("id"): field(v, "training", "curve") for v in results.get("variants") or []}
    names = [name for name, curve in curves.items() if name in compared and curve]
    if not names:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(xscale="log")
        for number, name in enumerate(names):
            points = sorted((point["macs"], point["top1"]) for point in curves[name])
            xs, ys = zip(*points, strict=True)
            colour, style = (BAD if name in baselines else INK), STYLES[number % len(STYLES)]
            axes.plot(xs, ys, color=colour, linestyle=style, marker="o", markersize=3, label=f.plain(name))
        spent = [point["macs"] for name in names for point in curves[name]]
        for target in sorted({pair["target_top1"] for pair in pairs}):
            axes.axhline(target, color=LINE, linewidth=1, zorder=1)
        reached = [point["top1"] for name in names for point in curves[name]]
        percent_axis(axes.yaxis, max(reached) - min(reached))
        log_axis(axes.xaxis, min(spent), max(spent), f.count)
        axes.set_xlabel("training MACs (log scale)", color=MUTED)
        axes.set_ylabel("top-1 on validation", color=MUTED)
        plain_axes(axes)
        legend(figure)

    return chart_svg("Accuracy against training compute", draw)


def lifetime_svg(entry: Mapping[str, Any]) -> str | None:
    """Lifetime ratio against queries, its limit, and the break-even point, of every variant that is granted."""
    records = [r for r in entry.get("variants") or [] if r.get("lifetime") and is_saving(r)]
    if not records:
        return None
    reference = f.plain(entry.get("reference"))

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(xscale="log")
        for number, record in enumerate(records):
            _draw_life(axes, record, STYLES[number % len(STYLES)])
        axes.axhline(1, color=LINE, linewidth=1.4, zorder=1)
        _counted(axes.xaxis)
        axes.set_xlabel("queries (log scale)", color=MUTED)
        axes.set_ylabel(f"times less than {reference}", color=MUTED)
        plain_axes(axes)
        legend(figure)

    return chart_svg(f"Lifetime against {reference}", draw)


def _draw_life(axes: Axes, record: Record, style: str) -> None:
    """c_b and c_c in units of c_c, which the ratio does not depend on."""
    life, name = record["lifetime"], f.plain(record["id"])
    asked = [10 ** (k / 8) for k in range(24, 8 * 12 + 1)]
    cost = life["query_macs"]
    ratios = [
        lifetime_ratio(
            cached_queries(q, life["hit_rate"]), cost["reference"], cost["variant"], life["effort"], life["training"]
        )
        for q in asked
    ]
    label, breaks = f"{name}, limit {f.times(life['limit'])}", record.get("break_even_queries")
    if breaks and breaks / (1 - life["hit_rate"]) >= asked[0]:
        at = breaks / (1 - life["hit_rate"])
        axes.plot([at], [1], marker="o", color=GOOD, markersize=7, zorder=4)
        label += f", pays after {f.queries(at)}"
    axes.plot(asked, ratios, color=INK, linestyle=style, label=label)


def gap_svg(basis: Record, start: float, end: float) -> str | None:
    """The trend that the recipe names, and what the run's saving in training compute takes off it, once."""
    if not basis["gap"]:
        return None
    look = Look(compute=INK, hardware=(MUTED,), gap=MUTED, saving=GOOD, text=MUTED, size=TEXT, room=0.6)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(yscale="log")
        draw_trends(axes, [basis], start, end, look)
        _counted(axes.yaxis)
        plain_axes(axes)
        legend(figure, 1)

    return chart_svg(f"The compute gap by {f.plain(basis['name'])}", draw)


def _counted(axis: Axis) -> None:
    """Figures with a prefix, 10 M, in place of powers of ten."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f.count(value)))
    axis.set_minor_formatter(NullFormatter())
