"""What the verbs on artifacts print, from their records; names in them are text, never rich's markup."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from compress.report import formats as f

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

Record = Mapping[str, Any]
GENERATED = (
    "MLPerf's load generator, {seconds:g} s or more a test, one artifact after another; no submission to MLPerf."
)
PERCENTILES = "Percentiles over {rounds} turns, each the mean of as many runs as last 2 ms; ratios above 1 are faster."


def bench_tables(record: Record) -> Iterator[Table | Text]:
    """The artifacts, their times batch by batch, and what they hold for; takes what `bench` gave."""
    from rich.text import Text

    about = _table("", "artifact", "runtime", *(">" + text for text in ("size", "load", "peak memory")))
    for row in record["artifacts"]:
        figures = (f.size(row["bytes"]), f"{1000 * row['load_s']:.0f} ms", f.size(row["peak_memory_bytes"]))
        about.add_row(*map(Text, (str(row["number"]), f.plain(row["path"]), row["runtime"], *figures)))
    yield about
    yield from _generated(record) if "mlperf" in record else _turns(record)
    machine = record["environment"]
    threads = f"{machine['threads']} {'thread' if machine['threads'] == 1 else 'threads'} of {machine['cores']} cores"
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    yield Text(f"{machine['processor']}, {threads}; Python {machine['python']}, {packages}; {machine['platform']}")


def _generated(record: Record) -> Iterator[Table | Text]:
    """What MLPerf's load generator found."""
    from rich.text import Text

    times = _table("", "scenario", ">batch", ">p50", ">p90", ">p99", ">images/s", "valid")
    for row in record["mlperf"]:
        shown = ("" if row[name] is None else f.milliseconds(row[name]) for name in ("p50_ms", "p90_ms", "p99_ms"))
        valid = "yes" if row["valid"] else f"no: {f.plain(row['reason'])}"
        cells = (str(row["number"]), row["scenario"], str(row["batch"]), *shown, f"{row['images_per_s']:,.0f}", valid)
        times.add_row(*map(Text, cells))
    yield times
    yield Text(GENERATED.format(seconds=record["seconds"]))


def _turns(record: Record) -> Iterator[Table | Text]:
    from rich.text import Text

    times = _table("", ">batch", ">p50", ">p90", ">p99", ">images/s", f"against {record['artifacts'][0]['number']}")
    for row in record["latency"]:
        shown = (f.milliseconds(row[name]) for name in ("p50_ms", "p90_ms", "p99_ms"))
        ratio = "" if row["number"] == 1 else f.times(row["ratio_to_first"]) + f.interval(row["ratio_ci95"])
        cells = (str(row["number"]), str(row["batch"]), *shown, f"{row['images_per_s']:,.0f}", ratio)
        times.add_row(*map(Text, cells))
    yield times
    if len(record["artifacts"]) > 1:
        yield Text("Fastest: " + "; ".join(_fastest(row) for row in record["fastest"]) + ".")
    yield Text(PERCENTILES.format(rounds=record["rounds"]))


def _fastest(row: Record) -> str:
    tied = f" (as fast within the interval: {', '.join(map(str, row['tied']))})" if row["tied"] else ""
    return f"at batch {row['batch']} {row['number']}{tied}"


def _table(*headings: str) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        right = heading.startswith(">")
        table.add_column(Text(heading.removeprefix(">")), justify="right" if right else "left", overflow="fold")
    return table


def evaluation_lines(record: Record) -> list[str]:
    """Accuracy, speed, and each image and folder that was left out; takes what `evaluate` gave."""
    accuracy = record["accuracy"]
    lines = [
        f"top-1 {f.accuracy(accuracy['top1'], accuracy['ci95'])}, {accuracy['correct']:,} of {accuracy['n']:,} images",
        f"{record['images_per_s']:,.0f} images/s, the network alone {record['runtime_images_per_s']:,.0f} "
        f"({record['runtime']})",
    ]
    empty = [row["class"] for row in record["classes"] if not row["n"]]
    if empty:
        lines.append(f"no image of {f.plain(', '.join(empty))}")
    for row in record["left_out"]:
        what = "outside any folder" if row["folder"] == "." else f"in {f.plain(row['folder'])}/, which is no class"
        lines.append(f"left out: {row['images']:,} {'image' if row['images'] == 1 else 'images'} {what}")
    if record["unreadable"]:
        count = len(record["unreadable"])
        lines.append(f"{count:,} {'file' if count == 1 else 'files'} that cannot be read, and left out:")
        lines += [f"  {f.plain(row['image'])} ({f.plain(row['reason'])})" for row in record["unreadable"]]
    return lines


def class_lines(record: Record) -> list[str]:
    """One line a class: its share of right answers."""
    width = max(len(row["class"]) for row in record["classes"])
    return [
        f"{f.plain(row['class']):<{width}}  {f.percent(row['top1']) if row['n'] else 'no image':>8}  of {row['n']:,}"
        for row in record["classes"]
    ]


def prediction_line(row: Record) -> str:
    """An image with its most probable classes, or with the reason why there are none."""
    if row["classes"] is None:
        return f"{f.plain(row['image'])} is no image that can be read ({f.plain(row['error'])})"
    return "  ".join(
        [f.plain(row["image"]), *(f"{f.plain(c['class'])} {c['probability']:.1%}" for c in row["classes"])]
    )
