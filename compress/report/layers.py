"""Output of `bench --layers`: where the time of artifacts goes, and what changes from the first to each other one."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from compress.report import formats as f
from compress.report.artifacts import ARTIFACTS, machine_line
from compress.report.tables import Column, make_table, to_rich

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

Record = Mapping[str, Any]  # a record of `compress.deployment`

NOTE = (
    "{runs} runs at batch {batch}, artifacts in turns, with the runtime's profiler on: compare layers with each other, "
    "and latencies without --layers. ONNX Runtime gives the median of each layer, OpenVINO the mean only."
)
SHOWN = 8  # layers of each artifact that have no counterpart, the slowest first
FIELDS = (
    *("host", "artifact", "runtime", "batch", "name", "source", "operator", "kind", "precision", "shape", "weights"),
    *("ms", "share"),
)

LAYERS: tuple[Column[Record], ...] = (
    Column("", lambda row: str(row["number"]), False),
    Column("layer", lambda row: f.plain(row["name"]), False),
    Column("operator", lambda row: f.plain(row["operator"]), False),
    Column("kind", lambda row: row["kind"], False),
    Column("precision", lambda row: f.plain(row["precision"]), False),
    Column("output", lambda row: _shape(row), False),
    Column("time", lambda row: f.milliseconds(row["ms"])),
    Column("share", lambda row: f.percent(row["share"])),
)
PAIRS: tuple[Column[Record], ...] = (
    Column("layer", lambda pair: f.plain(pair["names"][0]), False),
    Column("kind", lambda pair: pair["kind"], False),
    Column("precision", lambda pair: " → ".join(dict.fromkeys(map(f.plain, pair["precisions"]))), False),
    Column("first", lambda pair: f.milliseconds(pair["ms"][0])),
    Column("this", lambda pair: f.milliseconds(pair["ms"][1])),
    Column("speedup", lambda pair: f.times(pair["ratio"])),
)
CONVERSIONS: tuple[Column[Record], ...] = (
    Column("", lambda row: str(row["number"]), False),
    Column("conversions", lambda row: f.plain(row["operator"]), False),
    Column("count", lambda row: str(row["count"])),
    Column("time", lambda row: f.milliseconds(row["ms"])),
    Column("share", lambda row: f.percent(row["share"])),
)
TOTALS: tuple[Column[Record], ...] = (
    Column("", lambda row: str(row["number"]), False),
    Column("run", lambda row: f.milliseconds(row["run_ms"])),
    Column("layers", lambda row: f"{f.milliseconds(row['layers_ms'])} ({row['statistic']})"),
    Column("conversions", lambda row: f"{f.milliseconds(row['conversions_ms'])}, {f.percent(_converting(row))}"),
    Column("in int8", lambda row: f.percent(row["integer_share"])),
)


def layer_tables(record: Record) -> Iterator[Table | Text]:
    """Lay out the layers of one artifact, or of several: what became of each layer of the first, and the rest."""
    from rich.text import Text

    profile, pairs = record["profile"], record["pairs"]
    yield to_rich(make_table("artifacts", "", "", ARTIFACTS, record["artifacts"]))
    if len(record["artifacts"]) == 1:
        yield to_rich(make_table("layers", "", "", LAYERS, profile["layers"]))
    else:
        for number, group in groupby(pairs, lambda pair: pair["second"]):
            own = list(group)
            yield to_rich(make_table("pairs", f"{number} against 1, by layer", "", PAIRS, own))
            yield Text(changed(number, own))
        yield to_rich(make_table("conversions", "", "", CONVERSIONS, conversions(profile["layers"])))
        title = f"Other layers, the {SHOWN} slowest of each"
        yield to_rich(make_table("rest", title, "", LAYERS, _slowest(profile["layers"])))
    yield to_rich(make_table("totals", "", "", TOTALS, profile["totals"]))
    yield Text(NOTE.format(runs=profile["runs"], batch=profile["batch"]))
    yield Text(machine_line(record))


def changed(number: int, pairs: Sequence[Record]) -> str:
    """State how many layers are quantized in an artifact and not in the first, and which became slower by it."""
    quantized = [pair for pair in pairs if pair["precisions"][0] != "int8" and pair["precisions"][1] == "int8"]
    faster = [pair for pair in quantized if pair["ratio"] is not None and pair["ratio"] > 1]
    slower = [f.plain(pair["names"][0]) for pair in quantized if pair not in faster]
    kept = [f.plain(pair["names"][0]) for pair in pairs if pair["precisions"][1] != "int8"]
    if not quantized:
        return f"{number} computes no convolution or linear in int8 that 1 does not."
    line = f"Quantized in {number}: {len(quantized)} of {len(pairs)} convolutions and linears, {len(faster)} faster"
    line += f", not faster: {', '.join(slower)}" if slower else ""
    return line + (f"; in float: {', '.join(kept)}." if kept else ".")


def layers_csv(records: Sequence[Record]) -> str:
    """Lay out the layers of all artifacts as CSV, a line each."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, FIELDS)
    writer.writeheader()
    for record in records:
        for row in record["profile"]["layers"]:
            artifact = record["artifacts"][row["number"] - 1]
            about = {"host": record["environment"]["host"] or "", "artifact": artifact["path"]}
            about |= {"runtime": artifact["runtime"], "batch": record["profile"]["batch"]}
            own = {key: row[key] for key in FIELDS if key in row}
            writer.writerow({**about, **own, "shape": _shape(row)})
    return text.getvalue()


def conversions(layers: Sequence[Record]) -> list[Record]:
    """Sum up the conversions of each artifact by operator, the dearest first."""
    rows: dict[tuple[int, str], dict[str, Any]] = {}
    for row in layers:
        if row["kind"] == "conversion":
            key = row["number"], row["operator"]
            own = rows.setdefault(key, {"number": key[0], "operator": key[1], "count": 0, "ms": 0.0, "share": 0.0})
            own.update(count=own["count"] + 1, ms=own["ms"] + row["ms"], share=own["share"] + row["share"])
    return sorted(rows.values(), key=lambda row: (row["number"], -row["ms"]))


def _slowest(layers: Sequence[Record]) -> list[Record]:
    rows = []
    for _, group in groupby(layers, lambda row: row["number"]):
        others = [row for row in group if row["kind"] not in ("convolution", "linear")]
        rows += sorted(others, key=lambda row: -row["ms"])[:SHOWN]
    return rows


def _converting(row: Record) -> float:
    return float(row["conversions_ms"] / row["layers_ms"]) if row["layers_ms"] else 0.0


def _shape(row: Record) -> str:
    return "x".join(map(str, row["shape"]))
