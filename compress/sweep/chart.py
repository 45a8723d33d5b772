"""Charts of a sweep: accuracy against each cost, and parallel coordinates of the settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING

from compress.report import formats as f
from compress.report.svg import (
    GOOD,
    INK,
    LINE,
    MUTED,
    chart_svg,
    legend,
    log_axis,
    percent_axis,
    plain_axes,
)
from compress.sweep.objectives import VALIDATION
from compress.sweep.output import figure_text, setting_text
from compress.sweep.records import Point, Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ALWAYS = ("macs", "size")
MAX_LABELS = 12  # numbers of trials beside the front
MAX_AXES = 8  # of parallel coordinates
ROW = 44  # characters of all labels at one height of these
FAINT = 0.6  # opacity of trials that are not on the front
LOG_SPAN = 20.0  # of positive settings, beyond which their axis is logarithmic
SCATTER = (
    "Accuracy on validation against {}. Filled marks, with their 95% intervals, are on the front of all objectives; "
    "crosses are shown to be dominated, hollow marks only appear to be. The numbers are those of the trials."
)
PARALLEL = "Settings and figures, one line per trial. Dark lines are on the front{}."


@dataclass(frozen=True)
class _Style:
    label: str
    marker: str
    color: str
    face: str


STYLES = {
    "answer": _Style("answer", "*", GOOD, GOOD),
    "front": _Style("front", "o", INK, INK),
    "apparent": _Style("dominated, apparently", "o", MUTED, "none"),
    "shown": _Style("dominated, shown", "x", MUTED, MUTED),
    None: _Style("stopped early", ".", LINE, LINE),
}


def costs_of(sweep: Sweep) -> list[str]:
    """Return the costs to draw: the objectives, MACs and size, as far as they are known."""
    names = dict.fromkeys((*(name for name in sweep.objectives if name != VALIDATION), *ALWAYS))
    return [name for name in names if any(point.figures.get(name) for point in sweep.points)]


def scatter_svg(sweep: Sweep, cost: str) -> str | None:
    """Draw accuracy on validation against a cost; None without a trial."""
    points = [point for point in sweep.points if point.figures.get(cost) and VALIDATION in point.figures]
    if not points:
        return None
    label = f"Accuracy on validation against {cost} of all trials"
    return chart_svg(label, lambda figure: _scatter(figure, sweep, points, cost))


def _kind(sweep: Sweep, point: Point) -> str | None:
    return "answer" if point.number == sweep.answer.trial else point.dominance


def _scatter(figure: Figure, sweep: Sweep, points: Sequence[Point], cost: str) -> None:
    axes = figure.add_subplot()
    for kind, style in reversed(STYLES.items()):
        own = [point for point in points if _kind(sweep, point) == kind]
        if own:
            _draw(axes, own, cost, style, bars=kind in ("answer", "front"))
    front = [point for point in points if point.dominance == "front"]
    for point in front[:MAX_LABELS]:
        place = (point.figures[cost], point.figures[VALIDATION])
        axes.annotate(str(point.number), place, (6, 4), textcoords="offset points", color=INK, gid="label")
    values, tops = [[point.figures[name] for point in points] for name in (cost, VALIDATION)]
    low, high = min(values), max(values)
    axes.set_xscale("log")
    axes.set_xlim(low / 1.3, high * 1.3)
    log_axis(axes.xaxis, low, high, lambda value: figure_text(cost, value))
    percent_axis(axes.yaxis, max(tops) - min(tops))
    axes.set_xlabel(f"{cost} (log scale)", color=MUTED)
    axes.set_ylabel("top-1 on validation", color=MUTED)
    plain_axes(axes)
    legend(figure)


def _draw(axes: Axes, points: Sequence[Point], cost: str, style: _Style, *, bars: bool) -> None:
    x, y = [[point.figures[name] for point in points] for name in (cost, VALIDATION)]
    marks = axes.plot(x, y, linestyle="none", marker=style.marker, label=style.label, zorder=3)[0]
    marks.set_markersize(11 if style.marker == "*" else 6)
    marks.set_markerfacecolor(style.face)
    marks.set_markeredgecolor(style.color)
    marks.set_alpha(1.0 if bars else FAINT)
    for point in points if bars else ():
        if ends := point.validation_ci95:
            axes.plot([point.figures[cost]] * 2, ends, color=style.color, linewidth=1, alpha=0.5, zorder=2)


@dataclass(frozen=True)
class _Axis:
    """An axis of parallel coordinates: heights from 0 to 1 by trial, and labels at heights."""

    name: str
    heights: dict[int, float]
    labels: tuple[tuple[float, str], ...]


def parallel_svg(sweep: Sweep) -> str | None:
    """Draw parallel coordinates of what differs between trials; None where nothing does."""
    points = [point for point in sweep.points if point.figures]
    if not points:
        return None
    axes = [axis for axis in _axes(sweep, points) if len(set(axis.heights.values())) > 1]
    if len(axes) < 2:
        return None
    return chart_svg("Settings and figures of all trials", lambda figure: _parallel(figure, sweep, points, axes))


def _axes(sweep: Sweep, points: Sequence[Point]) -> list[_Axis]:
    names = list(dict.fromkeys(key for point in points for key in point.settings))[: MAX_AXES - 2]
    titles = _titles(names)
    settings = [_setting_axis(name, titles[name], points) for name in names]
    figures = [name for name in sweep.objectives if all(name in point.figures for point in points)]
    return settings + [_figure_axis(name, points) for name in figures[: MAX_AXES - len(settings)]]


def _titles(names: Sequence[str]) -> dict[str, str]:
    """Return the last word of each setting's name, or the last two where several end alike."""
    last = [name.rpartition(".")[2] for name in names]
    return {
        name: word if last.count(word) == 1 else ".".join(name.split(".")[-2:])
        for name, word in zip(names, last, strict=True)
    }


def _setting_axis(name: str, title: str, points: Sequence[Point]) -> _Axis:
    values = {point.number: point.settings[name] for point in points if name in point.settings}
    numbers = {number: float(value) for number, value in values.items() if not isinstance(value, str)}
    if len(numbers) == len(values):
        return _number_axis(title, numbers, setting_text)
    texts = list(dict.fromkeys(map(str, values.values())))
    height = {text: place / max(1, len(texts) - 1) for place, text in enumerate(texts)}
    labels = tuple((height[text], text) for text in texts[:MAX_LABELS])
    return _Axis(title, {number: height[str(value)] for number, value in values.items()}, labels)


def _figure_axis(name: str, points: Sequence[Point]) -> _Axis:
    values = {point.number: point.figures[name] for point in points}
    return _number_axis(name, values, lambda value: figure_text(name, value))


def _number_axis(name: str, values: dict[int, float], write: Callable[[float], str]) -> _Axis:
    low, high = min(values.values()), max(values.values())
    is_log = low > 0 and high > LOG_SPAN * low

    def height(value: float) -> float:
        if high == low:
            return 0.5
        return log10(value / low) / log10(high / low) if is_log else (value - low) / (high - low)

    heights = {number: height(value) for number, value in values.items()}
    return _Axis(name, heights, ((0.0, write(low)), (1.0, write(high))))


def _parallel(figure: Figure, sweep: Sweep, points: Sequence[Point], columns: Sequence[_Axis]) -> None:
    axes = figure.add_subplot()
    styles = {"answer": (GOOD, 2.5, 4), "front": (INK, 1.3, 3)}
    for point in points:
        color, width, above = styles.get(_kind(sweep, point) or "", (LINE, 0.8, 1))
        places = [
            (x, column.heights[point.number]) for x, column in enumerate(columns) if point.number in column.heights
        ]
        axes.plot(*zip(*places, strict=True), color=color, linewidth=width, zorder=above)
    for x, column in enumerate(columns):
        axes.axvline(x, color=MUTED, linewidth=0.8, zorder=2)
        for height, text in column.labels:
            shown = f.middle(text, ROW // len(columns))
            axes.annotate(shown, (x, height), (3, 3), textcoords="offset points", color=INK, gid="label")
    axes.set_xticks(range(len(columns)), [f.middle(column.name, 26) for column in columns], rotation=30, ha="right")
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(columns) - 0.3)  # room for the labels of the last axis
    axes.set_ylim(-0.05, 1.1)
    plain_axes(axes)
    axes.spines["left"].set_visible(False)
