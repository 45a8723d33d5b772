"""Latency by runtime and variant, one panel per batch size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from compress.efficiency.files import name_of
from compress.report import formats as f
from compress.report.svg import MARKS, MUTED, chart_svg, legend, log_axis, plain_axes
from compress.report.tables import VariantRow, variant_rows
from compress.results import LatencyRow, RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_BATCHES = 3


def latency_svg(record: RunRecord) -> str | None:
    """Draw medians with lines to the 99th percentile (log scale), a mark per runtime, at the first and last batches."""
    rows = [row for row in variant_rows(record, lambda variant: variant.inference.latency) if row.part.p50_ms]
    batches = sorted({row.part.batch for row in rows})
    if not batches:
        return None
    chosen = batches if len(batches) <= MAX_BATCHES else [*batches[: MAX_BATCHES - 1], batches[-1]]
    names = list(dict.fromkeys(row.variant for row in rows))
    runtimes = sorted({name_of(row.part) for row in rows})
    marks = {runtime: MARKS[number % len(MARKS)] for number, runtime in enumerate(runtimes)}

    def draw(figure: Figure) -> None:
        for axes, batch in zip(figure.subplots(len(chosen), squeeze=False)[:, 0], chosen, strict=True):
            _draw_batch(axes, [row for row in rows if row.part.batch == batch], names, marks)
            axes.set_title(f"batch {batch}", color=MUTED, loc="left")
        axes.set_xlabel("milliseconds per batch (log scale):\nmedian, line to the 99th percentile", color=MUTED)
        legend(figure, 3)

    return chart_svg("Latency by runtime", draw, 1.4 + len(chosen) * (0.7 + 0.26 * len(names)))


def _draw_batch(
    axes: Axes, rows: Sequence[VariantRow[LatencyRow]], names: Sequence[str], marks: Mapping[str, tuple[str, str]]
) -> None:
    axes.set_xscale("log")
    for runtime, (mark, colour) in marks.items():
        own = [row for row in rows if name_of(row.part) == runtime]
        positions = [names.index(row.variant) for row in own]
        medians, tails = [row.part.p50_ms for row in own], [_tail(row.part) for row in own]
        axes.hlines(positions, medians, tails, colors=colour, linewidth=1)
        axes.plot(medians, positions, mark, color=colour, markersize=5, label=f.plain(runtime))
    axes.set_yticks(range(len(names)), [f.short(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    low, high = min(row.part.p50_ms for row in rows), max(_tail(row.part) for row in rows)
    log_axis(axes.xaxis, low, high, lambda value: f"{value:g}")
    plain_axes(axes)


def _tail(row: LatencyRow) -> float:
    """99th percentile, or the median where it was not taken."""
    return row.p50_ms if row.p99_ms is None else row.p99_ms
