"""The pictures of the page of results: accuracy against MACs and against INT8 latency, ours beside published points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean
from typing import TYPE_CHECKING

from _results_kept import Page, Point, Published, Result, Row, Run, rows

from compress.efficiency import wilson
from compress.report.page import TEMPLATES
from compress.report.scatter import Chart, Mark, Style, draw_marks
from compress.report.svg import BAD, GOOD, LINE, MUTED, chart_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLES: Mapping[str, Style] = {
    "ours, INT8": {"marker": "o", "color": GOOD, "markerfacecolor": GOOD},
    "ours, FP32": {"marker": "o", "color": GOOD, "markerfacecolor": "none"},
    "published": {"marker": "s", "color": MUTED, "markerfacecolor": "none"},
    "MLPerf Tiny target": {"marker": "X", "color": BAD, "markerfacecolor": BAD},
}
INT8, FP32, PUBLISHED, TARGET = STYLES
TICKS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.97, 0.98, 0.99)  # of top-1
FONT = "text { font-family: system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif !important }"
CAPTION = """\
First: top-1 against MACs. Second: top-1 against the latency of INT8 files, one image at batch {batch}, for which there
are no published figures on the same machine. Bars are 95% intervals, over all seeds of a point. Grey lines are MLPerf
Tiny's quality targets, dotted ones join networks of one family. Sources: [published figures](#published-figures).
"""


@dataclass(frozen=True)
class Pictures:
    """The files of the pictures by name, and the Markdown that shows them."""

    files: dict[str, str]
    caption: str


def pictures(page: Page, published: Published, runs: dict[str, Run]) -> Pictures:
    """Draw accuracy against MACs and, where there is an INT8 file with a latency, against that."""
    ours = list(_ours(page, runs))
    by_macs = [_mark(label, row, [result.variant.inference.macs for result in row.results]) for label, row in ours]
    joined = _families(published, len(by_macs))
    by_macs += map(_published_mark, published.points)  # the first marks get the best places for their labels
    by_time = [
        _mark(label, row, [result.p50_ms / page.batch for result in row.results if result.p50_ms])
        for label, row in ours
        if _style(row.results[0]) == INT8 and row.results[0].p50_ms
    ]
    targets = [point.top1 for point in published.points if point.target]
    charts = {
        "macs.svg": ("Top-1 against MACs, ours beside published networks", _chart(by_macs, "MACs", targets, joined)),
        "latency.svg": ("Top-1 against INT8 latency", _chart(by_time, "INT8 milliseconds", targets)),
    }
    files = {name: picture(label, chart) for name, (label, chart) in charts.items() if chart.marks}
    images = "\n".join(f'<img src="results/{name}" alt="{charts[name][0]}" width="420" align="top">' for name in files)
    return Pictures(files, f"{images}\n\n{CAPTION.format(batch=page.batch)}")


def _chart(
    marks: Sequence[Mark], cost: str, targets: Sequence[float], joined: Sequence[tuple[int, int, str]] = ()
) -> Chart:
    """Lay out a chart whose scale gives room to high accuracies, where the networks are."""

    def scale(axes: Axes) -> None:
        low, high = min(mark.low for mark in marks), max(mark.high for mark in marks)
        axes.set_xlim(min(mark.cost for mark in marks) / 2, 3 * max(mark.cost for mark in marks))
        axes.set_yscale("logit", nonpositive="clip")  # labels are made at 0
        axes.set_ylim(0.96 * low, 1 - 0.7 * (1 - high))
        axes.set_yticks([tick for tick in TICKS if low <= tick <= high], minor=False)
        for top1 in targets:
            axes.axhline(top1, color=LINE, linewidth=1, zorder=0)
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
        axes.yaxis.set_minor_formatter("")
        axes.set_ylabel("top-1 on test (logit scale)", color=MUTED)

    return Chart(marks, STYLES, cost, joined, scale)


def _published_mark(point: Point) -> Mark:
    if point.target:
        return Mark(point.label, point.macs, point.top1, point.top1, point.top1, TARGET)
    return Mark(point.label, point.macs, point.top1, *wilson(round(point.top1 * point.images), point.images), PUBLISHED)


def _families(published: Published, start: int) -> list[tuple[int, int, str]]:
    """Lines between neighbours of one family, as pairs of positions of marks, which begin at `start`."""
    pairs = enumerate(pairwise(published.points), start)
    return [(n, n + 1, ":") for n, (one, other) in pairs if one.family and one.family == other.family]


def _ours(page: Page, runs: dict[str, Run]) -> Iterator[tuple[str, Row]]:
    """Yield the points that page.yml names for the picture, with their labels, by their fastest files."""
    for section in page.sections:
        for group in section.groups:
            chosen = group.model_copy(update={"variants": tuple(group.picture)})
            found = rows(chosen, [runs[name] for name in group.runs], page.batch, ()) if group.picture else ()
            yield from zip(group.picture.values(), found, strict=True)


def _mark(label: str, row: Row, costs: Sequence[float]) -> Mark:
    low, high = min(result.ci95[0] for result in row.results), max(result.ci95[1] for result in row.results)
    return Mark(label, mean(costs), mean(result.top1 for result in row.results), low, high, _style(row.results[0]))


def _style(result: Result) -> str:
    return INT8 if result.variant.inference.weight_bits in (7, 8) else FP32


def picture(label: str, chart: Chart) -> str:
    """Draw a chart as an SVG file of its own, in the report's colours for the light and the dark scheme."""
    svg = chart_svg(label, lambda figure: draw_marks(figure, chart))
    colours = (TEMPLATES / "html" / "style.css").read_text().split("* {")[0]
    head, body = svg.split(">", 1)
    background = '<rect width="100%" height="100%" style="fill: var(--paper)"/>'
    return f"{head}>\n<style>\n{colours}{FONT}\n</style>\n{background}{body}\n"
