"""Marks with intervals and labels on a chart of accuracy against cost: of one run's variants, or of several runs'."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from compress.report import formats as f
from compress.report.comparison import Figures
from compress.report.label_layout import Box, place_labels, side_by_side
from compress.report.svg import (
    HEIGHT,
    INK,
    LINE,
    MUTED,
    ROW,
    TEXT,
    columns_that_fit,
    legend,
    log_axis,
    percent_axis,
    plain_axes,
)
from compress.results import Inference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text


Costs = Inference | Figures


@dataclass(frozen=True)
class Cost:
    """A cost per image: its label, and how to get it."""

    label: str
    of: Callable[[Costs], int]


class Style(TypedDict):
    """matplotlib's settings of a mark."""

    marker: str
    color: str
    markerfacecolor: str


MACS = Cost("MACs", lambda costs: costs.macs)
BIT_OPERATIONS = Cost("bit operations", lambda costs: costs.bit_operations)
RADIUS = 5.5  # of a mark, in points
MAX_NAMED = 40  # marks, beyond which the table alone has the names
_EM = 1.25 * TEXT  # height of a label, whatever letters it has
_GAP = 4  # points between two labels side by side
_SAMPLES = 12


@dataclass(frozen=True)
class Mark:
    """A variant on the chart: cost, top-1 with interval (fractions), and the key of its style.

    Without a name it has no label.
    """

    name: str
    cost: float
    top1: float
    low: float
    high: float
    style: str


@dataclass(frozen=True)
class Chart:
    """What is drawn.

    Attributes:
        marks: All of them.
        styles: Styles of the marks by their labels in the legend.
        cost: Label of the cost.
        joined: (first mark, second mark, style of the line between them).
        decorate: Draw what else is on the axes, and set the horizontal limits.
    """

    marks: Sequence[Mark]
    styles: Mapping[str, Style]
    cost: str
    joined: Sequence[tuple[int, int, str]] = ()
    decorate: Callable[[Axes], None] = lambda axes: None


def distinguishing_cost(variants: Iterable[Costs]) -> Cost:
    """Choose the cost that distinguishes variants: MACs; bit operations, where most differ in these alone."""
    known = [costs for costs in variants if costs.macs]
    (macs, count) = Counter(costs.macs for costs in known).most_common(1)[0] if known else (0, 0)
    bits = {costs.bit_operations for costs in known if costs.macs == macs}
    differ_in_bits = 2 * count > len(known) and len(bits) > 1 and all(costs.bit_operations for costs in known)
    return BIT_OPERATIONS if differ_in_bits else MACS


def draw_marks(figure: Figure, chart: Chart) -> None:
    """Names beside the marks where all have room, else numbers with a key below.

    Marks that would cover each other stand side by side, each joined to its place by a faint line.
    """
    if not _drawn(figure, chart, numbered=False):
        figure.clear()
        _drawn(figure, chart, numbered=True)


def _drawn(figure: Figure, chart: Chart, numbered: bool) -> bool:
    """Whether every label has found its place."""
    figure.set_layout_engine("constrained")
    figure.set_figheight(HEIGHT)
    named = [number for number, mark in enumerate(chart.marks) if mark.name] if len(chart.marks) <= MAX_NAMED else []
    axes = _with_key(figure, chart, named) if numbered and named else figure.add_subplot()
    axes.set_xscale("log")
    _dress(axes, chart)
    chart.decorate(axes)
    used = {mark.style for mark in chart.marks}
    for name, style in chart.styles.items():
        if name in used:
            axes.plot([], [], linestyle="none", markersize=7, label=name, **style)
    legend(figure)
    figure.draw_without_rendering()  # from here on, everything has its place
    figure.set_layout_engine("none")

    frame = Box(*axes.bbox.extents)
    boxes = [_box(axes, mark) for mark in chart.marks]
    moves = side_by_side(boxes, frame)
    boxes = [box.moved(move) for box, move in zip(boxes, moves, strict=True)]
    costs = [_cost_at(axes, (box.left + box.right) / 2) for box in boxes]
    _draw(axes, chart, costs)
    lines = [box for first, second, _ in chart.joined for box in _along(boxes[first], boxes[second])]
    words = {mark: str(count) if numbered else chart.marks[mark].name for count, mark in enumerate(named, 1)}
    return _label(axes, boxes, words, frame, lines)


def _with_key(figure: Figure, chart: Chart, named: Sequence[int]) -> Axes:
    """Axes above a key of their numbers."""
    from matplotlib.lines import Line2D

    labels = [f"{count}  {chart.marks[mark].name}" for count, mark in enumerate(named, 1)]
    columns = columns_that_fit(max(map(len, labels)), 3)
    height, more = figure.get_figheight(), ROW * -(-len(labels) // columns)
    figure.set_figheight(height + more + 0.5)
    grid = figure.add_gridspec(2, 1, height_ratios=(1, 0.01))  # the key takes what it needs
    axes, key = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    key.set_axis_off()
    looks = [chart.styles[chart.marks[mark].style] for mark in named]
    handles = [Line2D([], [], linestyle="none", markersize=7, **look) for look in looks]
    key.legend(handles, labels, loc="center", ncols=columns, frameon=False, labelcolor=INK, columnspacing=1)
    return axes


def _box(axes: Axes, mark: Mark) -> Box:
    """A mark with its interval, and a little room."""
    (x, y), (_, low), (_, high) = axes.transData.transform([(mark.cost, v) for v in (mark.top1, mark.low, mark.high)])
    return Box(x - RADIUS, min(low, y - RADIUS), x + RADIUS, max(high, y + RADIUS))


def _cost_at(axes: Axes, x: float) -> float:
    return float(axes.transData.inverted().transform((x, 0))[0])


def _draw(axes: Axes, chart: Chart, costs: Sequence[float]) -> None:
    for mark, cost in zip(chart.marks, costs, strict=True):
        axes.plot([mark.cost, cost], [mark.top1] * 2, color=LINE, linewidth=1, zorder=1)
        errors = [[mark.top1 - mark.low], [mark.high - mark.top1]]
        look = chart.styles[mark.style]
        axes.errorbar([cost], [mark.top1], errors, linestyle="none", markersize=7, capsize=3, zorder=3, **look)
    for first, second, style in chart.joined:
        ends = [chart.marks[first].top1, chart.marks[second].top1]
        axes.plot([costs[first], costs[second]], ends, color=MUTED, linestyle=style, linewidth=1.2, zorder=2)


def _along(first: Box, second: Box) -> list[Box]:
    """Small boxes on the line between the middles of two."""
    shares = [k / _SAMPLES for k in range(1, _SAMPLES)]
    ends = [((box.left + box.right) / 2, (box.low + box.high) / 2) for box in (first, second)]
    points = [tuple(a + share * (b - a) for a, b in zip(*ends, strict=True)) for share in shares]
    return [Box(x - 1, y - 1, x + 1, y + 1) for x, y in points]


def _label(axes: Axes, boxes: Sequence[Box], words: Mapping[int, str], frame: Box, lines: Sequence[Box]) -> bool:
    """Write the words of some marks beside them. Where there is no room for some, these are left out."""
    texts: list[Text] = [
        axes.text(0, 0, text, color=INK, ha="center", va="center", gid="label") for text in words.values()
    ]
    sizes = [(text.get_window_extent().width + _GAP, _EM) for text in texts]
    others = [box for number, box in enumerate(boxes) if number not in words]
    places = place_labels([boxes[number] for number in words], sizes, frame, [*others, *lines])
    for text, place in zip(texts, places, strict=True):
        if place is None:
            text.remove()
        else:
            middle = ((place.left + place.right) / 2, (place.low + place.high) / 2)
            cost, top1 = axes.transData.inverted().transform(middle)
            text.set_position((cost, top1))
    return None not in places


def _dress(axes: Axes, chart: Chart) -> None:
    costs = [mark.cost for mark in chart.marks]
    low, high = min(mark.low for mark in chart.marks), max(mark.high for mark in chart.marks)
    axes.set_xlim(min(costs) / 1.5, max(costs) * 1.5)
    room = 0.15 * max(high - low, 0.01)
    axes.set_ylim(low - room, high + room)
    log_axis(axes.xaxis, min(costs), max(costs), f.count)
    percent_axis(axes.yaxis, high - low)
    axes.set_xlabel(f"{chart.cost} per image (log scale)", color=MUTED)
    axes.set_ylabel("top-1 on test", color=MUTED)
    plain_axes(axes)
