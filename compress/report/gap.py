"""The trends of `gap` as a table and as a chart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.errors import CompressError
from compress.report import formats as f

if TYPE_CHECKING:
    from rich.table import Table


def gap_tables(record: Mapping[str, Any]) -> list[Table]:
    """For a terminal: the trends, and what a run's savings offset by each."""
    from rich.table import Table

    trends = Table(box=None, pad_edge=False)
    span = f"gap {record['start']:g}–{record['end']:g}"
    for heading in (
        "trend",
        "compute × a year",
        "hardware × a year",
        span,
        "years to catch up",
        "to hold it, × a year",
    ):
        trends.add_column(heading, justify="left" if heading == "trend" else "right")
    trends.add_column("one doubling, months of growth", justify="right")
    trends.add_column("of gap", justify="right")
    for basis in record["bases"]:
        one = basis["one_doubling"]
        trends.add_row(
            basis["name"],
            f"{basis['growth']:g}",
            f"{basis['hardware']:.3f}",
            _rounded(basis["gap"], 4) if basis["gap"] else f"found to {basis['until']} only",
            f"{basis['years_to_catch_up']:.1f}" if basis["years_to_catch_up"] else "",
            f"{basis['holding_rate']:.2f}",
            f"{one['months_of_growth']:.1f}",
            f"{one['months_of_gap']:.1f}",
        )
    saved = Table(box=None, pad_edge=False)
    for heading in ("trend", "saving in", "variant", "against"):
        saved.add_column(heading)
    for heading in ("doublings", "months of growth", "months of gap"):
        saved.add_column(heading, justify="right")
    for basis in record["bases"]:
        for saving in basis["savings"]:
            gained = f.months(saving["months_of_gap"]) if saving["months_of_gap"] is not None else "none: inference"
            saved.add_row(
                basis["name"],
                saving["of"],
                saving["variant"],
                saving["against"],
                f.signed(saving["doublings"]),
                f.months(saving["months_of_growth"]),
                gained,
            )
    return [table for table in (trends, saved) if table.row_count]


def _rounded(times: float, digits: int) -> str:
    return f"{float(f'{times:.{digits}g}'):,.0f}×"


def draw_gap(record: Mapping[str, Any], path: Path) -> None:
    """Write the chart: training compute and the hardware of each trend from their common start, on a log scale.

    Raises:
        CompressError: matplotlib does not know the file's kind, or the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(yscale="log")
    years = [record["start"], record["end"]]
    span = years[1] - years[0]
    drawn = [basis for basis in record["bases"] if basis["gap"]]
    growths = {basis["growth"] for basis in drawn}
    for number, growth in enumerate(sorted(growths)):
        style = ("-", ":", "-.")[number % 3]
        axes.plot(years, [1, growth**span], color="black", linestyle=style, label=f"training compute, {growth:g}×/year")
    for basis in drawn:
        label = f"{basis['name']}: hardware {basis['hardware']:.2f}×/year, gap {_rounded(basis['gap'], 2)}"
        axes.plot(years, [1, basis["hardware"] ** span], label=label)
    axes.set_ylabel(f"times the level of {years[0]:g}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise CompressError(f"the chart cannot be written to {path}: {error}") from error
