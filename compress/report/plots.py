"""Accuracy against cost: the chart that the report opens with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compress.report import formats as f
from compress.report.formats import field
from compress.report.svg import BAD, GOOD, INK, LINE, MUTED, SIZE, chart_svg, plain_axes
from compress.report.tables import grant_word

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_LINES = 12

_STYLES: Mapping[str, Mapping[str, Any]] = {
    "reference": {"marker": "D", "color": INK, "markerfacecolor": INK},
    "granted": {"marker": "o", "color": GOOD, "markerfacecolor": GOOD},
    "as accurate, not cheaper": {"marker": "s", "color": MUTED, "markerfacecolor": MUTED},
    "not granted": {"marker": "o", "color": BAD, "markerfacecolor": "none"},
}


@dataclass(frozen=True)
class Point:
    """A variant on the chart: its cost, its top-1 with interval (fractions), and a key of `_STYLES`."""

    name: str
    cost: float
    top1: float
    low: float
    high: float
    state: str


def accuracy_cost_svg(results: Mapping[str, Any], entry: Mapping[str, Any]) -> str | None:
    """Accuracy against MACs (log scale), doublings against the reference as grid lines, granted or not marked.

    Args:
        results: A `results.json`.
        entry: The entry of its `efficiency` that says what the reference is and what is granted.

    Returns:
        An `<svg>` element to stand in an HTML page that has the CSS variables `--ink`, `--muted`, `--line`, `--good`
        and `--bad`; None where the reference or every other variant lacks accuracy or MACs.
    """
    points = _points(results, entry)
    reference = next((point for point in points if point.state == "reference"), None)
    if reference is None or len(points) < 2:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(xscale="log")
        _draw_points(axes, points)
        _draw_doublings(axes, points, reference)
        _dress(axes, points)
        figure.legend(frameon=False, labelcolor=INK, loc="outside lower center", ncols=2, fontsize=9)

    return chart_svg(f"Accuracy against MACs, reference {reference.name}", draw, SIZE)


def _points(results: Mapping[str, Any], entry: Mapping[str, Any]) -> list[Point]:
    words = {record.get("id"): grant_word(record) for record in entry.get("variants") or []}
    points = []
    for variant in results.get("variants") or []:
        cost, top1 = field(variant, "inference", "macs"), field(variant, "accuracy", "top1")
        if not cost or top1 is None:
            continue
        low, high = field(variant, "accuracy", "ci95") or (top1, top1)
        is_reference = variant.get("id") == entry.get("reference")
        state = "reference" if is_reference else words.get(variant.get("id"), "not granted")
        points.append(Point(f.short(variant.get("id")), cost, top1, low, high, state))
    return points


def _draw_points(axes: Axes, points: list[Point]) -> None:
    for state, style in _STYLES.items():
        chosen = [point for point in points if point.state == state]
        if not chosen:
            continue
        errors = [[p.top1 - p.low for p in chosen], [p.high - p.top1 for p in chosen]]
        xs, ys = [p.cost for p in chosen], [p.top1 for p in chosen]
        axes.errorbar(xs, ys, yerr=errors, linestyle="none", markersize=7, capsize=3, zorder=3, label=state, **style)
    middle = math.sqrt(min(p.cost for p in points) * max(p.cost for p in points))
    for point in points:
        left = point.cost > middle
        axes.annotate(
            point.name,
            (point.cost, point.top1),
            xytext=(-9 if left else 9, _rise(point, points)),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            color=INK,
        )


def _rise(point: Point, points: list[Point]) -> float:
    """Offset of a label, in points: variants of about one cost are labelled apart, the more accurate one higher."""
    near = [other for other in points if abs(math.log2(other.cost / point.cost)) < 0.5]
    near.sort(key=lambda other: (other.top1, other.name))
    return 13 * (near.index(point) - (len(near) - 1) / 2) if len(near) > 1 else 8


def _draw_doublings(axes: Axes, points: list[Point], reference: Point) -> None:
    exact = [math.log2(reference.cost / point.cost) for point in points]
    first, last = math.floor(min(exact) - 0.3), math.ceil(max(exact) + 0.3)
    step = 1 + (last - first) // _MOST_LINES
    axes.set_xlim(reference.cost / 2 ** (last + 0.15), reference.cost / 2 ** (first - 0.15))
    lines = [k for k in range(first, last + 1) if k % step == 0]
    for k in lines:
        axes.axvline(reference.cost / 2**k, color=LINE, linewidth=1.6 if k == 0 else 0.9, zorder=1)
        axes.annotate(
            f"{k:+d}".replace("-", "−") if k else "0",
            (reference.cost / 2**k, 1),
            xycoords=axes.get_xaxis_transform(),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            color=MUTED,
        )
    axes.set_title(f"doublings against {reference.name}", color=MUTED, fontsize=10, pad=20)


def _dress(axes: Axes, points: list[Point]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

    lowest, highest = min(p.cost for p in points), max(p.cost for p in points)
    close = highest / lowest < 300
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if close else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f.macs(value).removesuffix("MACs").strip()))
    axes.xaxis.set_minor_formatter(NullFormatter())
    tall = max(p.high for p in points) - min(p.low for p in points) > 0.04
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0 if tall else 1))
    axes.set_xlabel("MACs per image (log scale)", color=MUTED)
    axes.set_ylabel("top-1 on test", color=MUTED)
    axes.margins(y=0.12)
    plain_axes(axes)
