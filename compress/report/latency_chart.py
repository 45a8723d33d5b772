"""Latency by runtime and variant, one panel a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compress.report import formats as f
from compress.report.formats import field
from compress.report.svg import BAD, GOOD, INK, MUTED, chart_svg, plain_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]

_MARKS = (("o", INK), ("s", BAD), ("^", GOOD), ("D", MUTED), ("v", INK), ("P", BAD), ("X", GOOD), ("*", MUTED))
MOST_BATCHES = 3


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
    chosen = batches if len(batches) <= MOST_BATCHES else [*batches[: MOST_BATCHES - 1], batches[-1]]
    names = list(dict.fromkeys(row["variant"] for row in rows))
    runtimes = sorted({str(row.get("runtime")) for row in rows})
    marks = {runtime: _MARKS[number % len(_MARKS)] for number, runtime in enumerate(runtimes)}

    def draw(figure: Figure) -> None:
        for axes, batch in zip(figure.subplots(len(chosen), squeeze=False)[:, 0], chosen, strict=True):
            _draw_batch(axes, [row for row in rows if row["batch"] == batch], names, marks)
            axes.set_title(f"batch {f.text(batch)}", color=MUTED, fontsize=10, loc="left")
        axes.set_xlabel(
            "milliseconds a batch (log scale): median, line to the 99th percentile", color=MUTED, fontsize=9
        )
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, frameon=False, labelcolor=INK, loc="outside lower center", ncols=3, fontsize=9, numpoints=1
        )

    return chart_svg("Latency by runtime", draw, (5.2, 1.2 + len(chosen) * (0.7 + 0.24 * len(names))))


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
    axes.set_yticks(range(len(names)), [f.short(name) for name in names], fontsize=9)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    plain_axes(axes)
