"""Latency by runtime and variant, one panel a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compress.report import formats as f
from compress.report.formats import field
from compress.report.svg import MARKS, MUTED, chart_svg, legend, log_axis, plain_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]

MAX_BATCHES = 3


def latency_svg(results: Mapping[str, Any]) -> str | None:
    """Medians with a line to the 99th percentile on a log scale, a mark a runtime, of the first and last batches."""
    rows = [
        {**row, "variant": variant.get("id")}
        for variant in results.get("variants") or []
        for row in field(variant, "inference", "latency") or []
        if row.get("p50_ms") and row.get("batch") is not None
    ]
    batches = sorted({row["batch"] for row in rows})
    if not batches:
        return None
    chosen = batches if len(batches) <= MAX_BATCHES else [*batches[: MAX_BATCHES - 1], batches[-1]]
    names = list(dict.fromkeys(row["variant"] for row in rows))
    runtimes = sorted({str(row.get("runtime")) for row in rows})
    marks = {runtime: MARKS[number % len(MARKS)] for number, runtime in enumerate(runtimes)}

    def draw(figure: Figure) -> None:
        for axes, batch in zip(figure.subplots(len(chosen), squeeze=False)[:, 0], chosen, strict=True):
            _draw_batch(axes, [row for row in rows if row["batch"] == batch], names, marks)
            axes.set_title(f"batch {f.text(batch)}", color=MUTED, loc="left")
        axes.set_xlabel("milliseconds a batch (log scale):\nmedian, line to the 99th percentile", color=MUTED)
        legend(figure, 3)

    return chart_svg("Latency by runtime", draw, 1.4 + len(chosen) * (0.7 + 0.26 * len(names)))


def _draw_batch(axes: Axes, rows: list[Row], names: list[Any], marks: Mapping[str, tuple[str, str]]) -> None:
    axes.set_xscale("log")
    for runtime, (mark, colour) in marks.items():
        own = [row for row in rows if str(row.get("runtime")) == runtime]
        places = [names.index(row["variant"]) for row in own]
        axes.hlines(
            places,
            [row["p50_ms"] for row in own],
            [row.get("p99_ms") or row["p50_ms"] for row in own],
            colors=colour,
            linewidth=1,
        )
        axes.plot([row["p50_ms"] for row in own], places, mark, color=colour, markersize=5, label=f.plain(runtime))
    axes.set_yticks(range(len(names)), [f.short(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    times = [row.get("p99_ms") or row["p50_ms"] for row in rows]
    log_axis(axes.xaxis, min(row["p50_ms"] for row in rows), max(times), lambda value: f"{value:g}")
    plain_axes(axes)
