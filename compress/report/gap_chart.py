"""The chart of the gap: training compute and hardware since they were level, with intervals, and what is offset."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.errors import CompressError
from compress.report import formats as f
from compress.report.gap import rounded

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEPS = 60
DEFAULT = "epoch-fp32"
"""The trend whose gap is marked, if it is drawn."""


def draw_gap(record: Mapping[str, Any], path: Path) -> None:
    """Write the chart of `gap_record` to a file.

    Raises:
        CompressError: matplotlib does not know the file's kind, or the file cannot be written.
    """
    try:
        gap_figure(record["bases"], record["start"], record["end"]).savefig(path)
    except (OSError, ValueError) as error:
        raise CompressError(f"the chart cannot be written to {path}: {error}") from error


def gap_figure(bases: list[dict[str, Any]], start: float, end: float, colours: tuple[str, ...] = ()) -> Figure:
    """Draw the trends that hold for these years, on a log scale.

    Args:
        bases: Entries of `bases` of `gap_record`.
        start: First year, at which all are level.
        end: Last year.
        colours: Of the hardware's lines, in place of matplotlib's.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(yscale="log")
    drawn = [basis for basis in bases if basis["gap"]]
    for number, basis in enumerate({basis["growth"]: basis for basis in drawn}.values()):
        label = f"training compute, {basis['growth']:.3g}× a year"
        _line(axes, start, end, basis["growth"], _ends(basis, "growth"), label, "black", ("-", ":", "-.")[number % 3])
    for number, basis in enumerate(drawn):
        label = f"{f.plain(basis['name'])}: hardware {basis['hardware']:.2f}× a year, gap {rounded(basis['gap'], 2)}"
        colour = colours[number % len(colours)] if colours else f"C{number % 10}"
        _line(axes, start, end, basis["hardware"], _ends(basis, "hardware"), label, colour, "-")
    if drawn:
        marked = next((basis for basis in drawn if basis["name"] == DEFAULT), drawn[0])
        _mark_gap(axes, marked, start, end)
        _mark_saving(axes, marked, start, end)
    axes.set_ylabel(f"times the level of {start:g}")
    axes.set_xlim(start, end + 0.2 * (end - start))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def _ends(basis: Mapping[str, Any], what: str) -> tuple[float, float] | None:
    ends = basis.get(f"{what}_ci90") or basis.get(f"{what}_ci95")
    return (ends[0], ends[1]) if ends else None


def _line(
    axes: Axes,
    start: float,
    end: float,
    growth: float,
    ends: tuple[float, float] | None,
    label: str,
    colour: str,
    style: str,
) -> None:
    years = [start + (end - start) * step / STEPS for step in range(STEPS + 1)]
    axes.plot(years, [growth ** (year - start) for year in years], color=colour, linestyle=style, label=label)
    if ends:
        low, high = ([end ** (year - start) for year in years] for end in ends)
        axes.fill_between(years, low, high, color=colour, alpha=0.12, linewidth=0)


def _mark_gap(axes: Axes, basis: Mapping[str, Any], start: float, end: float) -> None:
    span, x = end - start, end + 0.02 * (end - start)
    low, high = basis["hardware"] ** span, basis["growth"] ** span
    axes.annotate("", (x, low), (x, high), arrowprops={"arrowstyle": "<->", "color": "grey"})
    axes.annotate(
        f" gap, {f.plain(basis['name'])}:\n {rounded(basis['gap'], 2)}",
        (x, (low * high) ** 0.5),
        color="grey",
        fontsize=8,
        va="center",
    )


def _mark_saving(axes: Axes, basis: Mapping[str, Any], start: float, end: float) -> None:
    """The largest saving of training compute, taken off the line of compute at its end; it is one step."""
    savings = [saving for saving in basis["savings"] if saving["months_of_gap"] is not None and saving["doublings"] > 0]
    best = max(savings, key=lambda saving: saving["doublings"], default=None)
    if best is None:
        return
    high, x = basis["growth"] ** (end - start), end + 0.05 * (end - start)
    axes.annotate("", (x, high / 2 ** best["doublings"]), (x, high), arrowprops={"arrowstyle": "->", "color": "C3"})
    words = (
        f" {f.plain(best['variant'])}:\n {f.signed(best['doublings'])} doublings,\n {best['months_of_gap']:.1f} months"
    )
    axes.annotate(words, (x, high / 2 ** (best["doublings"] / 2)), color="C3", fontsize=8, va="center")
