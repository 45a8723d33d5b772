"""The reliability diagram: accuracy against confidence of the networks of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.report import formats as f
from compress.report.svg import LINE, MARKS, MUTED, chart_svg, legend, percent_axis, plain_axes
from compress.results import Confidence, RunRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_LINES = 4


def reliability_svg(record: RunRecord, reference: str | None) -> str | None:
    """Draw the reference and up to three networks with the largest ECE; None where no confidence is known."""
    known = [(variant.id, variant.quality.confidence) for variant in record.variants if variant.quality]
    first = [each for each in known if each[0] == reference]
    others = sorted((each for each in known if each[0] != reference), key=lambda each: -each[1].ece)
    chosen = (first + others)[:MAX_LINES]
    if not chosen:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=LINE, linewidth=1.2, zorder=1)
        for (name, confidence), (marker, colour) in zip(chosen, MARKS, strict=False):
            _line(axes, name, confidence, marker, colour)
        axes.set_xlim(_lowest(chosen), 1.01)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("confidence", color=MUTED)
        axes.set_ylabel("accuracy", color=MUTED)
        percent_axis(axes.xaxis, 1)
        percent_axis(axes.yaxis, 1)
        plain_axes(axes)
        legend(figure)

    names = f.names(name for name, _ in chosen)
    return chart_svg(f"Accuracy against confidence of {names}; below the diagonal, a network is overconfident", draw)


def _line(axes: object, name: str, confidence: Confidence, marker: str, colour: str) -> None:
    points = [(bin.confidence, bin.accuracy) for bin in confidence.bins]
    axes.plot(*zip(*points, strict=True), marker=marker, color=colour, markersize=4, label=f.short(name))  # type: ignore[attr-defined]


def _lowest(chosen: list[tuple[str, Confidence]]) -> float:
    return min(bin.confidence for _, confidence in chosen for bin in confidence.bins) - 0.02
