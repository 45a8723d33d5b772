"""The chart below the first sentence: what inference, training and both over the lifetime are worth in months."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.report import formats as f
from compress.report.svg import BAD, GOOD, INK, LINE, MUTED, chart_svg, plain_axes
from compress.results import Headline, RunRecord, TrainingDoublings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

YEAR = 12
HEIGHT = 2.1


@dataclass(frozen=True)
class _Bar:
    """Signed months of growth, None where they are not known, with the ends of their interval."""

    label: str
    months: float | None
    ends: tuple[float, float] | None
    hatch: str | None = None


def months_svg(record: RunRecord) -> str | None:
    """Draw the months of the headline on a signed axis; None where nothing granted has months."""
    bars = _bars(record.headline)
    if not record.headline.granted or not record.efficiency or all(bar.months is None for bar in bars):
        return None
    growth = record.efficiency[0].trend.growth

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for row, bar in enumerate(bars):
            _draw(axes, row, bar)
        axes.axvline(0, color=INK, linewidth=1)
        axes.axvline(YEAR, color=LINE, linestyle="--", linewidth=1.4, zorder=1)
        axes.annotate(
            f"a year, {growth:g}×",
            (YEAR, 1),
            xycoords=("data", "axes fraction"),
            xytext=(4, -2),
            textcoords="offset points",
            color=MUTED,
            va="top",
        )
        axes.set_yticks(range(len(bars)), [bar.label for bar in bars])
        axes.set_ylim(len(bars) - 0.5, -0.8)
        low, high = axes.get_xlim()
        axes.set_xlim(low, max(high, 2.1 * YEAR))
        axes.set_xlabel("months of growth; below 0: added", color=MUTED)
        plain_axes(axes)

    return chart_svg("What the saving is worth in months", draw, HEIGHT)


def _bars(first: Headline) -> list[_Bar]:
    bars = []
    if first.inference and (months := first.inference.months.months_of_growth) is not None:
        bars.append(_Bar("inference", months, first.inference.months.growth_interval, "////"))
    if first.training and first.training.doublings is not None:
        months = first.training.months.months_of_growth
        bound = f": {first.training.bound}" if first.training.bound else ""
        bars.append(_Bar(f"training, once{bound}", months, _ends(first.training, months)))
    if first.life and (months := first.life.months.months_of_growth) is not None:
        bars.append(
            _Bar(f"both over {f.queries(first.life.queries)} images", months, first.life.months.growth_interval)
        )
    return bars


def _ends(training: TrainingDoublings, months: float | None) -> tuple[float, float] | None:
    """The interval of the months of t; at least that of t itself, which results of earlier versions leave out of it."""
    joined = training.months.growth_interval
    if months is None or not training.ci95 or not training.doublings or None in training.ci95:
        return joined
    ends = [end * months / training.doublings for end in training.ci95 if end is not None]
    return min(*ends, *(joined or ())), max(*ends, *(joined or ()))


def _draw(axes: Axes, row: int, bar: _Bar) -> None:
    if bar.months is None:
        axes.annotate("not known", (0, row), xytext=(6, 0), textcoords="offset points", color=MUTED, va="center")
        return
    colour = GOOD if bar.months >= 0 else BAD
    face = "none" if bar.hatch else colour
    axes.barh(row, bar.months, height=0.5, facecolor=face, edgecolor=colour, hatch=bar.hatch)
    if bar.ends:
        axes.plot(bar.ends, [row, row], color=INK, linewidth=1.6, marker="|", markersize=9)
