"""Charts of accuracy against cost, with intervals and labels, for the variants of one run or of several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from compress.report import formats as f
from compress.report.comparison import Figures
from compress.report.svg import (
    HEIGHT,
    INK,
    LINE,
    MUTED,
    TEXT,
    legend,
    log_axis,
    percent_axis,
    plain_axes,
)
from compress.results import Inference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox, BboxBase


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
MAX_NAMED = 40  # marks; with more, only the table has the names
STEP = 2.0  # points by which a mark is moved until it is free
GAP = 2.0  # points between a label and its mark
_LABEL_HEIGHT = 1.25 * TEXT
_LABEL_GAP = 4  # points between two labels side by side
_SAMPLES = 12  # of a line, to keep labels off it


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
    """A chart."""

    marks: Sequence[Mark]  # all marks
    styles: Mapping[str, Style]  # styles of the marks by their labels in the legend
    cost: str  # label of the cost
    joined: Sequence[tuple[int, int, str]] = ()  # (first mark, second mark, style of the line between them)
    decorate: Callable[[Axes], None] = lambda axes: None  # draw what else is on the axes, and set the horizontal limits


def distinguishing_cost(variants: Iterable[Costs]) -> Cost:
    """Choose the cost that distinguishes variants: MACs; bit operations, where most differ in these alone."""
    known = [costs for costs in variants if costs.macs]
    (macs, count) = Counter(costs.macs for costs in known).most_common(1)[0] if known else (0, 0)
    bits = {costs.bit_operations for costs in known if costs.macs == macs}
    differ_in_bits = 2 * count > len(known) and len(bits) > 1 and all(costs.bit_operations for costs in known)
    return BIT_OPERATIONS if differ_in_bits else MACS


def draw_marks(figure: Figure, chart: Chart) -> None:
    """Draw names beside the marks where all have room, otherwise numbers with a key below.

    Overlapping marks are spread side by side, each joined to its place by a faint line.
    """
    if not _try_drawing(figure, chart, numbered=False):
        figure.clear()
        _try_drawing(figure, chart, numbered=True)


def _try_drawing(figure: Figure, chart: Chart, numbered: bool) -> bool:
    """Draw the chart; return whether every label has a place."""
    figure.set_layout_engine("constrained")
    figure.set_figheight(HEIGHT)
    named = [number for number, mark in enumerate(chart.marks) if mark.name] if len(chart.marks) <= MAX_NAMED else []
    axes = figure.add_subplot()
    axes.set_xscale("log")
    _scale(axes, chart)
    chart.decorate(axes)
    used = {mark.style for mark in chart.marks}
    key = [(name, style) for name, style in chart.styles.items() if name in used]
    if numbered:
        key += [(f"{n}  {chart.marks[k].name}", chart.styles[chart.marks[k].style]) for n, k in enumerate(named, 1)]
    for label, style in key:
        axes.plot([], [], linestyle="none", markersize=7, label=label, **style)
    legend(figure, 3 if numbered else 2)
    figure.draw_without_rendering()  # fixes the positions of the axes
    figure.set_layout_engine("none")

    boxes = side_by_side([_box(axes, mark) for mark in chart.marks], axes.bbox)
    _draw(axes, chart, [_centre(axes, box)[0] for box in boxes])
    lines = [box for first, second, _ in chart.joined for box in _along(boxes[first], boxes[second])]
    labels = {mark: str(count) if numbered else chart.marks[mark].name for count, mark in enumerate(named, 1)}
    return _label(axes, boxes, labels, lines)


def _box(axes: Axes, mark: Mark) -> Bbox:
    """Bounding box of a mark with its interval."""
    from matplotlib.transforms import Bbox

    (x, y), (_, low), (_, high) = axes.transData.transform([(mark.cost, v) for v in (mark.top1, mark.low, mark.high)])
    return Bbox.from_extents(x - RADIUS, min(low, y - RADIUS), x + RADIUS, max(high, y + RADIUS))


def _centre(axes: Axes, box: Bbox) -> tuple[float, float]:
    """Cost and top-1 at the centre of a box."""
    cost, top1 = axes.transData.inverted().transform(((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2))
    return float(cost), float(top1)


def _draw(axes: Axes, chart: Chart, costs: Sequence[float]) -> None:
    for mark, cost in zip(chart.marks, costs, strict=True):
        axes.plot([mark.cost, cost], [mark.top1] * 2, color=LINE, linewidth=1, zorder=1)
        errors = [[mark.top1 - mark.low], [mark.high - mark.top1]]
        style = chart.styles[mark.style]
        axes.errorbar([cost], [mark.top1], errors, linestyle="none", markersize=7, capsize=3, zorder=3, **style)
    for first, second, line in chart.joined:
        ends = [chart.marks[first].top1, chart.marks[second].top1]
        axes.plot([costs[first], costs[second]], ends, color=MUTED, linestyle=line, linewidth=1.2, zorder=2)


def _along(first: Bbox, second: Bbox) -> list[Bbox]:
    """Small boxes on the line between the centres of two."""
    from matplotlib.transforms import Bbox

    (x, y), (to_x, to_y) = (((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2) for box in (first, second))
    shares = [k / _SAMPLES for k in range(1, _SAMPLES)]
    return [Bbox.from_bounds(x + share * (to_x - x) - 1, y + share * (to_y - y) - 1, 2, 2) for share in shares]


def side_by_side(boxes: Sequence[Bbox], frame: BboxBase) -> list[Bbox]:
    """Move each box left or right until it overlaps none before it; one without room in the frame stays."""
    placed: list[Bbox] = []
    for box in boxes:
        moves = (sign * k * STEP for k in range(int(frame.width / STEP) + 1) for sign in (1, -1))
        candidates = (box.translated(move, 0) for move in moves)
        placed.append(next((moved for moved in candidates if _is_free(moved, placed, frame)), box))
    return placed


def _is_free(box: Bbox, taken: Sequence[Bbox], frame: BboxBase) -> bool:
    """Whether a box is within the frame and shares no more than an edge with others."""
    within = frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1)
    return within and not (taken and box.count_overlaps(taken))


def _label(axes: Axes, boxes: Sequence[Bbox], labels: Mapping[int, str], lines: Sequence[Bbox]) -> bool:
    """Write labels beside their marks; leave out those without room, and return whether there were none."""
    taken, complete = [*boxes, *lines], True
    for mark, words in labels.items():
        text = axes.text(0, 0, words, color=INK, ha="center", va="center", gid="label")
        places = _beside(boxes[mark], text.get_window_extent().width + _LABEL_GAP, _LABEL_HEIGHT)
        place = next((place for place in places if _is_free(place, taken, axes.bbox)), None)
        if place is None:
            text.remove()
            complete = False
        else:
            text.set_position(_centre(axes, place))
            taken.append(place)
    return complete


def _beside(mark: Bbox, width: float, height: float) -> Iterator[Bbox]:
    """Yield the places of a label, the best first: right and left of its mark, above and below it, at its corners."""
    x, y = (mark.x0 + mark.x1 - width) / 2, (mark.y0 + mark.y1 - height) / 2
    right, left, above, below = mark.x1 + GAP, mark.x0 - GAP - width, mark.y1 + GAP, mark.y0 - GAP - height
    corners = ((side, y + rise) for rise in (height, -height) for side in (right, left))
    for place in ((right, y), (left, y), (x, above), (x, below), *corners):
        yield mark.from_bounds(*place, width, height)


def _scale(axes: Axes, chart: Chart) -> None:
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
