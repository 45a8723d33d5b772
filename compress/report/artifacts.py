"""Output of `bench`, `evaluate` and `predict`; names in it are text, never rich's markup."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from compress.data.left_out import LeftOut, left_out_line
from compress.report import formats as f
from compress.report.tables import Column, make_table, to_rich

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

Record = Mapping[str, Any]  # a record of `compress.deployment`

GENERATED = (
    "MLPerf's load generator, {seconds:g} s or more per test, one artifact after another; not a submission to MLPerf."
)
TIMED = "{rounds} rounds in {processes}; p90 and p99 of single runs; ratios above 1 are faster, intervals over {over}."

ARTIFACTS: tuple[Column[Record], ...] = (
    Column("", lambda row: str(row["number"]), False),
    Column("artifact", lambda row: f.plain(row["path"]), False),
    Column("runtime", lambda row: row["runtime"], False),
    Column("size", lambda row: f.size(row["bytes"])),
    Column("load", lambda row: f"{1000 * row['load_s']:.0f} ms"),
    Column("peak memory", lambda row: f.size(row["peak_memory_bytes"])),
)

LATENCY: tuple[Column[Record], ...] = (
    Column("batch", lambda row: str(row["batch"])),
    Column("p50", lambda row: _percentile(row["p50_ms"])),
    Column("p90", lambda row: _percentile(row["p90_ms"])),
    Column("p99", lambda row: _percentile(row["p99_ms"])),
    Column("images/s", lambda row: f"{row['images_per_s']:,.0f}"),
)

MLPERF: tuple[Column[Record], ...] = (
    ARTIFACTS[0],
    Column("scenario", lambda row: row["scenario"], False),
    *LATENCY,
    Column("valid", lambda row: "yes" if row["valid"] else f"no: {f.plain(row['reason'])}", False),
)


def bench_tables(record: Record) -> Iterator[Table | Text]:
    """Lay out the result of `bench`: artifacts, latency by batch size, and the machine."""
    from rich.text import Text

    yield to_rich(make_table("artifacts", "", "", ARTIFACTS, record["artifacts"]))
    if "mlperf" in record:
        yield to_rich(make_table("mlperf", "", "", MLPERF, record["mlperf"]))
        yield Text(GENERATED.format(seconds=record["seconds"]))
    else:
        ratio: Column[Record] = Column(f"against {record['artifacts'][0]['number']}", _ratio, False)
        yield to_rich(make_table("latency", "", "", (ARTIFACTS[0], *LATENCY, ratio), record["latency"]))
        if len(record["artifacts"]) > 1:
            yield Text("Fastest: " + "; ".join(map(_fastest, record["fastest"])) + ".")
        yield from (Text(line) for line in _timing_lines(record))
    yield Text(machine_line(record))


def machine_line(record: Record) -> str:
    """Describe the machine, and the versions that the figures hold for."""
    machine = record["environment"]
    threads = f"{machine['threads']} {'thread' if machine['threads'] == 1 else 'threads'} of {machine['cores']} cores"
    threads += f", CPU quota {quota:g}" if (quota := machine["cpu_quota"]) else ""
    packages = ", ".join(f"{f.plain(name)} {f.plain(version)}" for name, version in machine["packages"].items())
    where = f"{f.plain(host)}: " if (host := machine["host"]) else ""
    about = f"Python {f.plain(machine['python'])}, {packages}; {f.plain(machine['platform'])}"
    return f"{where}{f.plain(machine['processor'])}, {threads}; {about}"


def _timing_lines(record: Record) -> Iterator[str]:
    """State how the artifacts were timed, and which of them have several modes."""
    several = record["processes"] > 1
    processes, over = (f"{record['processes']} fresh processes", "processes") if several else ("one process", "rounds")
    yield TIMED.format(rounds=record["rounds"], processes=processes, over=over)
    for row in record["latency"]:
        if row["split"]:
            medians = ", ".join(f.milliseconds(value) for value in row["process_p50_ms"])
            yield f"{row['number']} at batch {row['batch']} has several modes: {medians} in fresh processes."


def _percentile(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f.milliseconds(milliseconds)


def _ratio(row: Record) -> str:
    return "" if row["number"] == 1 else f.times(row["ratio_to_first"]) + f.interval(row["ratio_ci95"])


def _fastest(row: Record) -> str:
    tied = f" (as fast within the interval: {', '.join(map(str, row['tied']))})" if row["tied"] else ""
    return f"at batch {row['batch']} {row['number']}{tied}"


def evaluation_lines(record: Record) -> list[str]:
    """State the result of `evaluate`: accuracy, throughput, and the images and folders that were left out."""
    accuracy = record["accuracy"]
    lines = [
        f"top-1 {f.accuracy(accuracy['top1'], accuracy['ci95'])}, {accuracy['correct']:,} of {accuracy['n']:,} images",
        f"{record['images_per_s']:,.0f} images/s, without reading and decoding {record['runtime_images_per_s']:,.0f} "
        f"({record['runtime']})",
    ]
    if empty := f.names(row["class"] for row in record["classes"] if not row["n"]):
        lines.append(f"no images of {empty}")
    for row in record["left_out"]:
        folder = "outside any folder" if row["folder"] == "." else f"in {f.plain(row['folder'])}/, which is not a class"
        lines.append(f"left out: {row['images']:,} {'image' if row['images'] == 1 else 'images'} {folder}")
    if other := left_out_line(LeftOut(**row) for row in record["other_files"]):
        lines.append(f"left out: {f.plain(other)}")
    if count := len(record["unreadable"]):
        lines.append(f"left out: {count:,} unreadable {'file' if count == 1 else 'files'}:")
        lines += [f"  {f.plain(row['image'])} ({f.plain(row['reason'])})" for row in record["unreadable"]]
    if bound := record.get("min_top1"):
        needed = f"; about {bound['images_needed']:,} images could tell" if bound["images_needed"] else ""
        lines.append(f"{bound['verdict']}: top-1 of at least {f.percent(bound['bound'])}{needed}")
    return lines


def class_lines(record: Record) -> list[str]:
    """State the accuracy per class, in a line each."""
    width = max(len(row["class"]) for row in record["classes"])
    return [
        f"{f.plain(row['class']):<{width}}  {f.percent(row['top1']) if row['n'] else 'no images':>9}  of {row['n']:,}"
        for row in record["classes"]
    ]


def prediction_line(row: Record) -> str:
    """State the most probable classes of an image, or why it cannot be read."""
    image = f.plain(row["image"])
    if row["classes"] is None:
        return f"{image} cannot be read as an image ({f.plain(row['error'])})"
    return "  ".join([image, *(f"{f.plain(each['class'])} {each['probability']:.1%}" for each in row["classes"])])
