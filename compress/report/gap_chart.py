"""Chart of the gap: training compute and hardware since they were level, with intervals, and what savings offset.

`gap --plot` also draws the published points that growths are fitted to, each table scaled to 1 at the first year.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compress.efficiency.months import is_above_zero
from compress.gap.growth_fit import COMPUTE
from compress.gap.points import BEST_RATE, FP32_RATE, Points
from compress.report import formats as f
from compress.report import months
from compress.report.gap import rounded
from compress.utils.errors import CompressError, UsageError
from compress.utils.resources import DEFAULT_TREND

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from compress.efficiency.trends import Ends
    from compress.gap.record import Basis, GapRecord

STEPS = 60
ENDINGS = (".svg", ".png", ".pdf")
MARKERS = {COMPUTE: "o", FP32_RATE: "^", BEST_RATE: "v"}
"""Marker of each quantity whose points are drawn."""
MOORE = 2**0.5
"""Moore's law, a doubling in 2 years, as a factor per year."""


@dataclass(frozen=True)
class Look:
    """Colours and sizes of the chart; `hardware` has the colours of several lines in turn."""

    compute: str = "black"
    hardware: tuple[str, ...] = tuple(f"C{number}" for number in range(10))
    gap: str = "grey"
    saving: str = "C3"
    text: str = "black"
    size: float = 8  # of the labels beside the last year, points
    room: float = 0.25  # right of the last year, share of the years


@dataclass(frozen=True)
class Frame:
    """Axes that go from the year at which all are level to the last one."""

    axes: Axes
    start: float
    end: float
    look: Look

    @property
    def span(self) -> float:
        return self.end - self.start


def require_chart(path: Path) -> None:
    """Refuse a file that a chart is not written as.

    Raises:
        UsageError: its ending is another one than those of `ENDINGS`.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"--plot {path}: a chart cannot be written as that; end the name in .svg, .png or .pdf")


def draw_gap(record: GapRecord, path: Path) -> None:
    """Write the chart of `gap_record` to a file, with the published points and Moore's law.

    Raises:
        UsageError: the file has another ending than those of `ENDINGS`, or growth until the last year is no number.
        CompressError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    require_chart(path)
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.add_subplot(yscale="log")
    try:
        _draw_lines(axes, record)
    except OverflowError as error:
        years = f"{record.end - record.start:,.0f} years"
        raise UsageError(f"--plot {path}: growth over {years} is too large for a chart; give a nearer --end") from error
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize=7, loc="outside lower center", ncols=2)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise CompressError(f"cannot write the chart to {path}: {error}") from error


def _draw_lines(axes: Axes, record: GapRecord) -> None:
    """Draw points, trends and Moore's law."""
    _draw_points(axes, record)
    draw_trends(axes, record.bases, record.start, record.end, Look())
    passed = record.end - record.start
    label = f"Moore's law, 2× in 2 years, {MOORE**passed:,.0f}×"
    axes.plot([record.start, record.end], [1, MOORE**passed], color="grey", linestyle="--", label=label)


def _draw_points(axes: Axes, record: GapRecord) -> None:
    """Draw the points of a fit as multiples of what the fit has at the first year."""
    growths = {fit.quantity: fit.growth for fit in record.fits if fit.growth}
    for points in record.points:
        growth, marker = growths.get(points.quantity), MARKERS.get(points.quantity)
        if growth is None or marker is None:
            continue
        level = _level(points, growth, record.start)
        shown = [
            (year, value / level)
            for year, value in zip(points.years, points.values, strict=True)
            if record.start <= year <= record.end
        ]
        label = f"published: {points.quantity}, fit {growth:.3g}× a year"
        colour = "black" if points.quantity == COMPUTE else "grey"
        years, values = zip(*shown, strict=True) if shown else ((), ())
        axes.plot(years, values, marker, color=colour, markersize=3, alpha=0.5, label=label)


def _level(points: Points, growth: float, start: float) -> float:
    """Value of the fitted line at a year: a least-squares line passes through the means."""
    logs = statistics.fmean(map(math.log, points.values))
    return math.exp(logs - math.log(growth) * (statistics.fmean(points.years) - start))


def draw_trends(axes: Axes, bases: Sequence[Basis], start: float, end: float, look: Look) -> None:
    """Draw the trends that hold for these years, with the gap and the largest saving of training compute.

    Args:
        axes: Axes with a log scale.
        bases: Entries of `bases` of `gap_record`.
        start: First year, at which all are level.
        end: Last year.
        look: Colours and sizes.
    """
    from matplotlib.ticker import MaxNLocator

    frame = Frame(axes, start, end, look)
    drawn = [basis for basis in bases if basis.gap]
    longest = {basis.growth: basis for basis in sorted(drawn, key=lambda basis: basis.end)}
    for number, basis in enumerate(longest.values()):
        label, ends = f"training compute, {basis.growth:.3g}× a year", basis.growth_ci90 or basis.growth_ci95
        _line(frame, basis.end, basis.growth, ends, label, look.compute, ("-", ":", "-.", "--")[number % 4])
    for number, basis in enumerate(drawn):
        label = f"{f.plain(basis.name)}: hardware {basis.hardware:.2f}× a year, gap {_gap(basis)}"
        label += "" if basis.end == end else f" to {round(basis.end, 1):g}"
        ends, colour = basis.hardware_ci90 or basis.hardware_ci95, look.hardware[number % len(look.hardware)]
        _line(frame, basis.end, basis.hardware, ends, label, colour, "-")
    if drawn:
        marked = next((basis for basis in drawn if basis.name == DEFAULT_TREND), drawn[0])
        _mark_gap(frame, marked)
        _mark_saving(frame, marked)
    axes.set_ylabel(f"times the level of {start:g}", color=look.text)
    axes.set_xlim(start, end + look.room * frame.span)
    years = MaxNLocator(4, steps=(1, 2, 4, 5, 10), integer=True).tick_values(start, end)
    axes.set_xticks([year for year in years if start <= year <= end])


def _line(frame: Frame, until: float, rate: float, ends: Ends | None, label: str, colour: str, style: str) -> None:
    """Draw a trend to the end of its data, with its interval where the source gives one."""
    elapsed = [(until - frame.start) * step / STEPS for step in range(STEPS + 1)]
    years = [frame.start + passed for passed in elapsed]
    frame.axes.plot(years, [rate**passed for passed in elapsed], color=colour, linestyle=style, label=label)
    if ends:
        low, high = ([end**passed for passed in elapsed] for end in ends)
        frame.axes.fill_between(years, low, high, color=colour, alpha=0.12, linewidth=0)


def _gap(basis: Basis) -> str:
    return f.UNKNOWN if basis.gap is None else rounded(basis.gap, 2)


def _mark_gap(frame: Frame, basis: Basis) -> None:
    passed = basis.end - frame.start
    label = f"gap, {f.plain(basis.name)}:\n{_gap(basis)}"
    _arrow(
        frame, basis.end + 0.02 * frame.span, basis.hardware**passed, basis.growth**passed, label, "<->", frame.look.gap
    )


def _mark_saving(frame: Frame, basis: Basis) -> None:
    """Mark the largest saving of training compute at the end of the line of compute: it is a single step.

    A saving of at most so much, or one whose interval includes 0, may be none.
    """
    possible = [saving for saving in basis.savings if (saving.months_of_gap or 0) > 0 and saving.bound != "at most"]
    savings = [saving for saving in possible if is_above_zero(saving.doublings_ci95)]
    best = max(savings, key=lambda saving: saving.doublings or 0, default=None)
    if best is None:
        return
    high = basis.growth ** (basis.end - frame.start)
    bound = f"{best.bound} " if best.bound else ""
    label = f"{f.plain(best.variant)}, once:\n{bound}{f.signed(best.doublings)} doublings,\n"
    label += f"{bound}{best.months_of_gap:.1f} months of gap{months.interval(best.gap_interval)}"
    x = basis.end + 0.05 * frame.span
    _arrow(frame, x, high / 2 ** (best.doublings or 0), high, label, "->", frame.look.saving)


def _arrow(frame: Frame, x: float, low: float, high: float, label: str, style: str, colour: str) -> None:
    """Draw an arrow beside the last year of a line, labelled at its middle."""
    size = frame.look.size
    frame.axes.annotate("", (x, low), (x, high), arrowprops={"arrowstyle": style, "color": colour})
    middle = (x, (low * high) ** 0.5)
    frame.axes.annotate(
        label, middle, xytext=(7, 0), textcoords="offset points", va="center", color=colour, fontsize=size
    )
