"""A comparison as tables for the terminal, and as one self-contained page."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from compress.report import formats as f
from compress.report.compare_chart import CAPTION, comparison_svg
from compress.report.comparison import (
    NO_CLAIM,
    Change,
    ComparedRun,
    Comparison,
    Difference,
    Figures,
    LatencyChange,
)
from compress.report.page import html_page
from compress.report.tables import Column, Table, make_table, to_rich
from compress.utils.outputs import require_writable, write_output

if TYPE_CHECKING:
    from rich.table import Table as RichTable


@dataclass(frozen=True)
class Row:
    """A variant in one run, with the label of the run."""

    id: str
    label: str
    figures: Figures
    change: Change | None


def comparison_tables(comparison: Comparison) -> list[Table]:
    """Lay out a comparison: runs, settings that differ, accuracy, costs and latency."""
    return [
        _runs(comparison),
        _differences(comparison, "recipe", comparison.recipe),
        _differences(comparison, "environment", comparison.environment),
        _accuracy(comparison),
        _costs(comparison),
        _latency(comparison),
    ]


def _labels(comparison: Comparison) -> list[str]:
    """[runs], A, B, ... or 1, 2, ... where there are more than letters."""
    count = len(comparison.runs)
    return list(string.ascii_uppercase[:count]) if count <= 26 else [str(k + 1) for k in range(count)]


def _runs(comparison: Comparison) -> Table:
    columns: tuple[Column[tuple[str, ComparedRun]], ...] = (
        Column("run", lambda row: row[0], False),
        Column("id", lambda row: f.plain(row[1].name), False),
        Column("recipe", lambda row: f.plain(row[1].recipe), False),
        Column("started", lambda row: f.plain(row[1].started), False),
        Column("recipe's SHA-256", lambda row: f.plain(row[1].sha256)[:12], False),
        Column("folder", lambda row: f.plain(row[1].path), False),
    )
    note = (
        "All runs used the same test images, so accuracies are compared image by image."
        if comparison.paired
        else "Accuracies are compared image by image where both runs are known to have used the same test images and "
        "have stored which of them were correct; the others are unpaired."
    )
    rows = zip(_labels(comparison), comparison.runs, strict=True)
    return make_table("runs", "Runs", note, columns, rows)


def _differences(
    comparison: Comparison, name: Literal["recipe", "environment"], differences: tuple[Difference, ...]
) -> Table:
    def value(number: int) -> Callable[[Difference], str]:
        return lambda row: _setting(row.values[number])

    columns: list[Column[Difference]] = [Column("setting", lambda row: f.plain(row.key), False)]
    columns += [Column(label, value(number), False) for number, label in enumerate(_labels(comparison))]
    note = "Resolved settings; those that are the same in all runs are left out."
    return make_table(f"changed-{name}", f"What changed in the {name}", note, columns, differences, empty="Nothing.")


def _setting(value: object) -> str:
    return "null" if value is None else f.plain(value)


def _accuracy(comparison: Comparison) -> Table:
    columns: tuple[Column[Row], ...] = (
        Column("variant", lambda row: f.plain(row.id), False),
        Column("run", lambda row: row.label, False),
        Column("top-1 (95% interval)", lambda row: f.accuracy(row.figures.accuracy.top1, row.figures.accuracy.ci95)),
        Column("points against A (95% interval)", lambda row: _gain(row.change)),
        Column("compared", lambda row: _basis(row.change), False),
        Column("accuracy", lambda row: row.change.top1.verdict if row.change else "", False),
    )
    note = (
        "Paired: Tango's score interval of the difference on the same test images. Unpaired, on other images or "
        "without the predictions of single ones: Newcombe's, which is wider. Each variant was trained once; "
        "trainings with different seeds differ by more than these intervals."
    )
    return make_table("accuracy", "Accuracy changes", note, columns, _rows(comparison))


def _costs(comparison: Comparison) -> Table:
    columns: tuple[Column[Row], ...] = (
        Column("variant", lambda row: f.plain(row.id), False),
        Column("run", lambda row: row.label, False),
        Column("MACs", lambda row: f.count(row.figures.macs)),
        Column("ratio to A", lambda row: f.times(row.change.macs) if row.change else ""),
        Column("bit operations", lambda row: f.count(row.figures.bit_operations)),
        Column("ratio to A", lambda row: f.times(row.change.bit_operations) if row.change else ""),
        Column("size", lambda row: f.size(row.figures.bytes)),
        Column("ratio to A", lambda row: f.times(row.change.bytes) if row.change else ""),
        Column("training MACs", lambda row: f.count(row.figures.training_macs)),
        Column("ratio to A", lambda row: f.times(row.change.training_macs) if row.change else ""),
    )
    note = "Counted, so without an interval. The ratio is this run's cost over A's: below 1 is cheaper."
    return make_table("costs", "Cost changes", note, columns, _rows(comparison))


def _latency(comparison: Comparison) -> Table:
    columns: tuple[Column[tuple[Row, LatencyChange]], ...] = (
        Column("variant", lambda pair: f.plain(pair[0].id), False),
        Column("run", lambda pair: pair[0].label, False),
        Column("runtime", lambda pair: f.plain(pair[1].runtime), False),
        Column("batch", lambda pair: str(pair[1].batch)),
        Column("median, A", lambda pair: f.milliseconds(pair[1].p50_ms[0])),
        Column("median", lambda pair: f.milliseconds(pair[1].p50_ms[1])),
        Column("speedup over the reference, A", lambda pair: _speedup(pair[1], 0)),
        Column("speedup over the reference", lambda pair: _speedup(pair[1], 1)),
        Column("processes", lambda pair: " and ".join(f.text(count or None) for count in pair[1].processes)),
        Column("time against A (95% interval)", lambda pair: _slower(pair[1])),
        Column("speed", lambda pair: pair[1].verdict, False),
    )
    note = (
        "Medians of two runs were measured at different times, perhaps on different machines: no claim. The time "
        "against A is relative to the reference, timed in the same processes, and needs that to be the same model, the "
        "same kind of machine, the same version of the runtime, and several processes: a run of one process does not "
        "show how two starts of the same file differ. The interval is Welch's over processes."
    )
    rows = [(row, latency) for row in _rows(comparison) if row.change for latency in row.change.latency]
    return make_table("latency", "Latency changes", note, columns, rows)


def _speedup(change: LatencyChange, run: int) -> str:
    return f.times(change.ratio[run]) + f.interval(change.ratio_ci95[run])


def _slower(change: LatencyChange) -> str:
    """+3.1% (+1.0% to +5.2%): how much longer it takes than in A."""
    if change.slower is None:
        return ""
    ends = [f"{100 * end:+.1f}%".replace("-", "−") for end in (change.slower, *(change.slower_ci95 or ()))]
    return ends[0] + (f" ({ends[1]} to {ends[2]})" if change.slower_ci95 else "")


def _rows(comparison: Comparison) -> Iterator[Row]:
    for variant in comparison.variants:
        for label, figures, change in zip(_labels(comparison), variant.runs, variant.changes, strict=True):
            if figures:
                yield Row(variant.id, label, figures, change)


def _gain(change: Change | None) -> str:
    if change is None:
        return ""
    ends = change.top1.ci95
    return f.points(-change.top1.difference, [-end for end in ends] if ends else None)


def _basis(change: Change | None) -> str:
    if change is None:
        return ""
    if not change.top1.same_data:
        return "other data"
    if change.same_stage_key:
        return "the same model"
    return f"paired, {change.top1.images:,} images" if change.top1.images else "unpaired"


def comparison_page(comparison: Comparison) -> str:
    """Render a comparison as one self-contained HTML page."""
    labels = _labels(comparison)
    names = ", ".join(f"{label} {f.plain(run.name)}" for label, run in zip(labels, comparison.runs, strict=True))
    return html_page(
        "compare.html.j2",
        title=f"Comparison: {names}",
        tables=comparison_tables(comparison),
        changes=change_lines(comparison),
        remarks=remark_lines(comparison),
        chart=comparison_svg(comparison, labels),
        caption=CAPTION,
    )


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the page.

    Raises:
        UsageError: its folder does not exist, or the path is a folder itself.
        OSError: it cannot be written there.
    """
    require_writable(path, "--html")
    write_output(path, comparison_page(comparison))


def change_lines(comparison: Comparison) -> list[str]:
    """State in sentences which accuracies changed, as far as the intervals show it."""
    lines = [
        f"{f.plain(row.id)}: top-1 of {row.label} is {_gain(row.change)} than A's; {_basis(row.change)}."
        for row in _rows(comparison)
        if row.change and row.change.top1.verdict != NO_CLAIM
    ]
    return lines or ["No change of accuracy is shown."]


def remark_lines(comparison: Comparison) -> list[str]:
    """State what restricts the comparison: changed files, other data or machines, variants of some runs only."""
    lines = []
    runs = dict(zip(_labels(comparison), comparison.runs, strict=True))
    first = comparison.runs[0]
    timed = {
        label: any(change and change.latency for change in changes)
        for label, *changes in zip(runs, *(variant.changes for variant in comparison.variants), strict=True)
    }
    for label, run in runs.items():
        lines += [f"{label}: {f.plain(remark)}." for remark in run.remarks]
        if run is first:
            continue
        if run.against_first.same_results:
            lines.append(f"{label} has exactly the results of A: it is the same run, or a copy of it.")
        if not run.against_first.same_data:
            same_name = run.data == first.data
            why = "other classes" if same_name else f"{f.plain(run.data)}, not {f.plain(first.data)}"
            lines.append(f"{label} used other data than A ({why}): no claim about accuracy.")
        if not run.against_first.same_machine:
            why = f.plain(f"{run.machine}, not {first.machine}")
            lines.append(f"{label} ran on another kind of machine than A ({why}): no claim about latency.")
        elif timed[label]:
            lines += _latency_remarks(label, run)
    for variant in comparison.variants:
        present = [label for label, figures in zip(runs, variant.runs, strict=True) if figures]
        if len(present) < len(runs):
            lines.append(f"{f.plain(variant.id)} is in {', '.join(present)} only.")
    return lines


def _latency_remarks(label: str, run: ComparedRun) -> Iterator[str]:
    """State why speeds on one kind of machine are not compared."""
    if not run.against_first.same_reference:
        yield f"{label} and A have no reference that is the same model: no claim about latency."
    for engine in run.against_first.engines:
        old, new = ("unknown" if version is None else f.plain(version) for version in engine.values)
        name = f.plain(engine.key)
        yield f"{label} was timed with another version of {name} than A ({new}, not {old}): no claim there."


def terminal_tables(comparison: Comparison) -> list[RichTable]:
    """Lay out the tables that have rows for the terminal."""
    return [to_rich(table) for table in comparison_tables(comparison) if table.rows]
