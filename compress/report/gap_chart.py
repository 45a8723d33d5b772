"""Chart of the gap: training compute and hardware since they were level, with intervals, and what savings offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compress.report import formats as f
from compress.report.gap import rounded
from compress.utils.errors import CompressError
from compress.utils.resources import DEFAULT_TREND

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from compress.efficiency.trends import Ends
    from compress.gap.record import Basis, GapRecord

STEPS = 60


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


def draw_gap(record: GapRecord, path: Path) -> None:
    """Write the chart of `gap_record` to a file.

    Raises:
        CompressError: matplotlib does not support the file's format, or the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(yscale="log")
    draw_trends(axes, record.bases, record.start, record.end, Look())
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise CompressError(f"cannot write the chart to {path}: {error}") from error


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
    for number, basis in enumerate({basis.growth: basis for basis in drawn}.values()):
        label, ends = f"training compute, {basis.growth:.3g}× a year", basis.growth_ci90 or basis.growth_ci95
        _line(frame, basis.growth, ends, label, look.compute, ("-", ":", "-.")[number % 3])
    for number, basis in enumerate(drawn):
        label = f"{f.plain(basis.name)}: hardware {basis.hardware:.2f}× a year, gap {_gap(basis)}"
        ends, colour = basis.hardware_ci90 or basis.hardware_ci95, look.hardware[number % len(look.hardware)]
        _line(frame, basis.hardware, ends, label, colour, "-")
    if drawn:
        marked = next((basis for basis in drawn if basis.name == DEFAULT_TREND), drawn[0])
        _mark_gap(frame, marked)
        _mark_saving(frame, marked)
    axes.set_ylabel(f"times the level of {start:g}", color=look.text)
    axes.set_xlim(start, end + look.room * frame.span)
    years = MaxNLocator(4, steps=(1, 2, 4, 5, 10), integer=True).tick_values(start, end)
    axes.set_xticks([year for year in years if start <= year <= end])


def _line(frame: Frame, rate: float, ends: Ends | None, label: str, colour: str, style: str) -> None:
    """Draw a trend, with its interval where the source gives one."""
    elapsed = [frame.span * step / STEPS for step in range(STEPS + 1)]
    years = [frame.start + passed for passed in elapsed]
    frame.axes.plot(years, [rate**passed for passed in elapsed], color=colour, linestyle=style, label=label)
    if ends:
        low, high = ([end**passed for passed in elapsed] for end in ends)
        frame.axes.fill_between(years, low, high, color=colour, alpha=0.12, linewidth=0)


def _gap(basis: Basis) -> str:
    return f.UNKNOWN if basis.gap is None else rounded(basis.gap, 2)


def _mark_gap(frame: Frame, basis: Basis) -> None:
    low, high = basis.hardware**frame.span, basis.growth**frame.span
    label = f"gap, {f.plain(basis.name)}:\n{_gap(basis)}"
    _arrow(frame, 0.02, low, high, label, "<->", frame.look.gap)


def _mark_saving(frame: Frame, basis: Basis) -> None:
    """Mark the largest saving of training compute at the end of the line of compute: it is a single step."""
    savings = [saving for saving in basis.savings if (saving.months_of_gap or 0) > 0]
    best = max(savings, key=lambda saving: saving.doublings, default=None)
    if best is None:
        return
    high = basis.growth**frame.span
    label = f"{f.plain(best.variant)}, once:\n{f.signed(best.doublings)} doublings,\n"
    label += f"{best.months_of_gap:.1f} months of gap"
    _arrow(frame, 0.05, high / 2**best.doublings, high, label, "->", frame.look.saving)


def _arrow(frame: Frame, right: float, low: float, high: float, label: str, style: str, colour: str) -> None:
    """Draw an arrow beside the last year, labelled at its middle."""
    x, size = frame.end + right * frame.span, frame.look.size
    frame.axes.annotate("", (x, low), (x, high), arrowprops={"arrowstyle": style, "color": colour})
    middle = (x, (low * high) ** 0.5)
    frame.axes.annotate(
        label, middle, xytext=(7, 0), textcoords="offset points", va="center", color=colour, fontsize=size
    )
