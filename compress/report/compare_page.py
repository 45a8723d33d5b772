"""What `compare` shows: tables for the terminal and one self-contained page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.report import formats as f
from compress.report.compare import ABSENT, NO_CLAIM, same_tests
from compress.report.compare_chart import CAPTION, comparison_svg
from compress.report.formats import field
from compress.report.page import html_page
from compress.report.tables import Column, Record, Table, at, make
from compress.utils.atomic import write_atomic
from compress.utils.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table as Shown


def comparison_tables(record: Mapping[str, Any]) -> list[Table]:
    """The tables of a comparison; takes what `compare` gave."""
    tables = [_runs(record), _changed(record, "recipe"), _changed(record, "environment"), _accuracy(record)]
    return [*tables, _costs(record), _latency(record)]


def _labels(record: Mapping[str, Any]) -> list[str]:
    """[runs], A, B, ... or 1, 2, ... where there are many."""
    count = len(record["runs"])
    return [chr(ord("A") + k) if count <= 26 else str(k + 1) for k in range(count)]


def _runs(record: Mapping[str, Any]) -> Table:
    rows = [{**run, "label": label} for run, label in zip(record["runs"], _labels(record), strict=True)]
    columns = (
        Column("run", at(f.text, "label"), False),
        Column("id", at(f.text, "name"), False),
        Column("recipe", at(f.text, "recipe"), False),
        Column("started", at(f.text, "started"), False),
        Column("recipe's SHA-256", lambda r: f.text(r["sha256"])[:12], False),
        Column("folder", at(f.text, "path"), False),
    )
    note = (
        "All runs asked the same test images, so accuracies are compared image by image."
        if same_tests(record)
        else "Not all runs are known to have asked the same test images; where not, only intervals are compared."
    )
    return make("runs", "Runs", note, columns, rows)


def _changed(record: Mapping[str, Any], what: str) -> Table:
    def value(number: int) -> Callable[[Record], str]:
        return lambda row: _shown(row["values"][number])

    columns = [Column("setting", at(f.text, "key"), False)]
    columns += [Column(label, value(number), False) for number, label in enumerate(_labels(record))]
    title = f"What changed in the {what}"
    note = "Settings as they were resolved; what is the same in all runs is left out." if record[what] else "Nothing."
    return make(f"changed-{what}", title, note, columns, record[what])


def _shown(value: Any) -> str:
    return value if value == ABSENT else "null" if value is None else f.plain(value)


def _accuracy(record: Mapping[str, Any]) -> Table:
    rows = list(_by_run(record))
    columns = (
        Column("variant", at(f.text, "id"), False),
        Column("run", at(f.text, "label"), False),
        Column("top-1 (95% interval)", at(f.accuracy, "figures", "accuracy")),
        Column("points against A (95% interval)", lambda r: _gain(field(r, "change", "top1"))),
        Column("compared", lambda r: _basis(r["change"]), False),
        Column("accuracy", lambda r: _verdict(field(r, "change", "top1")), False),
    )
    note = (
        "Paired: Tango's score interval of the difference on the same test images. Otherwise no interval of the "
        "difference is given, and a claim needs Wilson intervals that do not overlap. Each variant was trained once: "
        "two trainings with other seeds differ by more than these intervals."
    )
    return make("accuracy", "Accuracy that moved", note, columns, rows)


def _costs(record: Mapping[str, Any]) -> Table:
    costs = (("MACs", "macs", f.count), ("bit operations", "bit_operations", f.count), ("size", "bytes", f.size))
    columns = [Column("variant", at(f.text, "id"), False), Column("run", at(f.text, "label"), False)]
    for heading, name, write in (*costs, ("training MACs", "training_macs", f.count)):
        columns += [Column(heading, at(write, "figures", name)), Column("of A's", _of_first(name))]
    note = "Counted, so without an interval. The ratio is this run's over A's: below 1 is cheaper."
    return make("costs", "Costs that moved", note, columns, list(_by_run(record)))


def _of_first(cost: str) -> Callable[[Record], str]:
    """The ratio to the first run; empty for that itself, and where it lacks the variant."""
    return lambda row: f.times(row["change"][cost]) if row["change"] else ""


def _latency(record: Mapping[str, Any]) -> Table:
    rows = [
        {**row, **latency, "threads": None}
        for row in _by_run(record)
        for latency in field(row, "change", "latency") or []
    ]
    columns = (
        Column("variant", at(f.text, "id"), False),
        Column("run", at(f.text, "label"), False),
        Column("runtime", at(f.text, "runtime"), False),
        Column("batch", at(f.text, "batch")),
        Column("median, A", lambda r: f.milliseconds(r["p50_ms"][0])),
        Column("median", lambda r: f.milliseconds(r["p50_ms"][1])),
        Column("times faster than reference, A", lambda r: f.times(r["ratio"][0]) + f.interval(r["ratio_ci95"][0])),
        Column("times faster than reference", lambda r: f.times(r["ratio"][1]) + f.interval(r["ratio_ci95"][1])),
        Column("speed", _verdict, False),
    )
    note = (
        "Medians of two runs were measured at two times, perhaps on two machines, so nothing is claimed of them. The "
        "ratios to each run's own reference were measured in turns; a claim needs 95% intervals that do not overlap."
    )
    return make("latency", "Latency that moved", note, columns, rows)


def _by_run(record: Mapping[str, Any]) -> Iterator[Record]:
    for variant in record["variants"]:
        for label, figures, change in zip(_labels(record), variant["runs"], variant["changes"], strict=True):
            if figures:
                yield {"id": variant["id"], "label": label, "figures": figures, "change": change}


def _gain(top1: Record | None) -> str:
    if not top1:
        return ""
    ends = top1["ci95"]
    return f.points(
        -top1["difference"] if top1["difference"] is not None else None, [-e for e in ends] if ends else None
    )


def _basis(change: Record | None) -> str:
    if not change or change["top1"]["difference"] is None:
        return ""
    if not change["top1"]["same_data"]:
        return "other data"
    if change["same_stage_key"]:
        return "the same model"
    return f"paired, {change['top1']['images']:,} images" if change["top1"]["paired"] else "two intervals"


def _verdict(record: Record | None) -> str:
    return f.plain(record["verdict"]) if record else ""


def comparison_page(record: Mapping[str, Any]) -> str:
    """One self-contained HTML page."""
    tables = comparison_tables(record)
    labels = _labels(record)
    names = ", ".join(f"{label} {f.plain(run['name'])}" for label, run in zip(labels, record["runs"], strict=True))
    shown = {
        "title": f"Comparison: {names}",
        "tables": tables,
        "moved": moved_lines(record),
        "lines": remark_lines(record),
        "chart": comparison_svg(record, labels),
        "caption": CAPTION,
    }
    return html_page("compare.html.j2", shown)


def write_comparison(record: Mapping[str, Any], path: Path) -> None:
    """Write the page.

    Raises:
        UsageError: its folder does not exist, or it is a folder itself.
        OSError: it cannot be written there.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file, e.g. --html {path / 'moved.html'}")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} does not exist; --html names a file in a folder that does")
    write_atomic(path, comparison_page(record))


def moved_lines(record: Mapping[str, Any]) -> list[str]:
    """Accuracies that moved, in sentences: only what the intervals show."""
    lines = []
    for row in _by_run(record):
        top1 = field(row, "change", "top1")
        if top1 and top1["verdict"] != NO_CLAIM:
            lines.append(
                f"{f.plain(row['id'])}: top-1 of {row['label']} is {_gain(top1)} than A's; {_basis(row['change'])}."
            )
    return lines or ["No accuracy is shown to have moved."]


def remark_lines(record: Mapping[str, Any]) -> list[str]:
    """What must be known to read a comparison right, in sentences: files, data, machines, and variants of some runs."""
    lines = []
    runs = list(zip(_labels(record), record["runs"], strict=True))
    first = runs[0][1]
    for label, run in runs:
        lines += [f"{label}: {f.plain(remark)}." for remark in run["remarks"]]
        against = run["against_first"]
        if run is first:
            continue
        if against["same_results"]:
            lines.append(f"{label} has the very results of A: it is the same run, or a copy of it.")
        if not against["same_data"]:
            why = f"{f.text(run['data'])}, not {f.text(first['data'])}"
            why = "of other classes" if run["data"] == first["data"] else why
            lines.append(f"{label} has other data than A ({why}): nothing is claimed of accuracy.")
        if not against["same_machine"]:
            why = f"{_machine(run)}, not {_machine(first)}"
            lines.append(f"{label} is not known to be from A's machine ({why}): nothing is claimed of latency.")
    for variant in record["variants"]:
        having = [label for (label, _), figures in zip(runs, variant["runs"], strict=True) if figures]
        if len(having) < len(runs):
            lines.append(f"{f.plain(variant['id'])} is in {', '.join(having)} only.")
    return lines


def _machine(run: Record) -> str:
    """Its processor, GPU and threads, as far as they are known."""
    cpu, gpu, threads = (run["machine"][name] for name in ("cpu", "gpu", "threads"))
    parts = [f.plain(cpu or "an unknown processor"), *([f.plain(gpu)] if gpu else [])]
    return ", ".join([*parts, *([f"{f.plain(threads)} threads"] if threads is not None else [])])


def terminal_tables(record: Mapping[str, Any]) -> Iterator[Shown]:
    """The same for the terminal; names in them are text, never rich's markup."""
    from rich import box
    from rich.table import Table as Shown
    from rich.text import Text

    for table in comparison_tables(record):
        if not table.rows:
            continue
        shown = Shown(box=box.SIMPLE_HEAD, pad_edge=False, title=Text(table.title), title_justify="left")
        for heading, figure in zip(table.headings, table.figures, strict=True):
            shown.add_column(Text(heading), justify="right" if figure else "left", overflow="fold")
        for cells in table.rows:
            shown.add_row(*map(Text, cells))
        yield shown
