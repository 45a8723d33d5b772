"""The chart of the gap: training compute and hardware since they were level, with intervals, and what is offset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.recipe.worth import DEFAULT_TREND
from compress.report import formats as f
from compress.report.gap import rounded
from compress.utils.errors import CompressError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Basis = Mapping[str, Any]

STEPS = 60


@dataclass(frozen=True)
class Look:
    """Colours of the line of compute, the hardware's lines in turn, the marks, and words; and the room for words.

    Attributes:
        size: of the words beside the last year, in points.
        room: right of the last year, as a share of the years.
    """

    compute: str = "black"
    hardware: tuple[str, ...] = tuple(f"C{number}" for number in range(10))
    gap: str = "grey"
    saving: str = "C3"
    text: str = "black"
    size: float = 8
    room: float = 0.25


@dataclass(frozen=True)
class Frame:
    """What is drawn on: from the year at which all are level to the last one."""

    axes: Axes
    start: float
    end: float
    look: Look

    @property
    def span(self) -> float:
        return self.end - self.start


def draw_gap(record: Mapping[str, Any], path: Path) -> None:
    """Write the chart of `gap_record` to a file.

    Raises:
        CompressError: matplotlib does not know the file's kind, or the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(yscale="log")
    draw_trends(axes, record["bases"], record["start"], record["end"], Look())
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise CompressError(f"the chart cannot be written to {path}: {error}") from error


def draw_trends(axes: Axes, bases: list[dict[str, Any]], start: float, end: float, look: Look) -> None:
    """Draw the trends that hold for these years, with the gap and the largest saving of training compute.

    Args:
        axes: What is drawn on, with a log scale.
        bases: Entries of `bases` of `gap_record`.
        start: First year, at which all are level.
        end: Last year.
        look: Colours and sizes.
    """
    from matplotlib.ticker import MaxNLocator

    frame = Frame(axes, start, end, look)
    drawn = [basis for basis in bases if basis["gap"]]
    for number, basis in enumerate({basis["growth"]: basis for basis in drawn}.values()):
        label = f"training compute, {basis['growth']:.3g}× a year"
        _line(frame, basis, "growth", label, look.compute, ("-", ":", "-.")[number % 3])
    for number, basis in enumerate(drawn):
        label = f"{f.plain(basis['name'])}: hardware {basis['hardware']:.2f}× a year, gap {rounded(basis['gap'], 2)}"
        _line(frame, basis, "hardware", label, look.hardware[number % len(look.hardware)], "-")
    if drawn:
        marked = next((basis for basis in drawn if basis["name"] == DEFAULT_TREND), drawn[0])
        _mark_gap(frame, marked)
        _mark_saving(frame, marked)
    axes.set_ylabel(f"times the level of {start:g}", color=look.text)
    axes.set_xlim(start, end + look.room * frame.span)
    years = MaxNLocator(4, steps=(1, 2, 4, 5, 10), integer=True).tick_values(start, end)
    axes.set_xticks([year for year in years if start <= year <= end])


def _line(frame: Frame, basis: Basis, what: str, label: str, colour: str, style: str) -> None:
    """A trend, and where its source has an interval, that too."""
    passed = [frame.span * step / STEPS for step in range(STEPS + 1)]
    years = [frame.start + gone for gone in passed]
    frame.axes.plot(years, [basis[what] ** gone for gone in passed], color=colour, linestyle=style, label=label)
    ends = basis.get(f"{what}_ci90") or basis.get(f"{what}_ci95")
    if ends:
        low, high = ([rate**gone for gone in passed] for rate in ends)
        frame.axes.fill_between(years, low, high, color=colour, alpha=0.12, linewidth=0)


def _mark_gap(frame: Frame, basis: Basis) -> None:
    low, high = basis["hardware"] ** frame.span, basis["growth"] ** frame.span
    words = f"gap, {f.plain(basis['name'])}:\n{rounded(basis['gap'], 2)}"
    _arrow(frame, 0.02, low, high, words, "<->", frame.look.gap)


def _mark_saving(frame: Frame, basis: Basis) -> None:
    """The largest saving of training compute, taken off the line of compute at its end: it is one step."""
    savings = [saving for saving in basis["savings"] if (saving["months_of_gap"] or 0) > 0]
    best = max(savings, key=lambda saving: saving["doublings"], default=None)
    if best is None:
        return
    high = basis["growth"] ** frame.span
    words = f"{f.plain(best['variant'])}, once:\n{f.signed(best['doublings'])} doublings,\n"
    words += f"{best['months_of_gap']:.1f} months of gap"
    _arrow(frame, 0.05, high / 2 ** best["doublings"], high, words, "->", frame.look.saving)


def _arrow(frame: Frame, right: float, low: float, high: float, words: str, style: str, colour: str) -> None:
    """An arrow beside the last year, with words at its middle."""
    x = frame.end + right * frame.span
    frame.axes.annotate("", (x, low), (x, high), arrowprops={"arrowstyle": style, "color": colour})
    middle = (x, (low * high) ** 0.5)
    beside: dict[str, Any] = {"xytext": (7, 0), "textcoords": "offset points", "va": "center"}
    frame.axes.annotate(words, middle, color=colour, fontsize=frame.look.size, **beside)
