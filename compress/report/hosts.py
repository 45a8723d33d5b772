"""Table of the latency on other machines; each machine is compared with itself only."""

from __future__ import annotations

from dataclasses import dataclass

from compress.report import formats as f
from compress.report.tables import Column, Table, make_table
from compress.results import HostMachine, HostMeasurement, LatencyRow, RunRecord


@dataclass(frozen=True)
class HostRow:
    """A row of latency with the machine that it was measured on."""

    measured: HostMeasurement
    machine: HostMachine
    variant: str
    latency: LatencyRow


COLUMNS: tuple[Column[HostRow], ...] = (
    Column("machine", lambda r: f.plain(r.measured.host), False),
    Column("processor", lambda r: f.plain(r.machine.processor), False),
    Column("batch", lambda r: str(r.latency.batch)),
    Column("runtime", lambda r: f"{f.plain(r.measured.runtime)}{_version(r)}", False),
    Column("variant", lambda r: f.plain(r.variant), False),
    Column("precision", lambda r: f.plain(r.latency.precision), False),
    Column("median", lambda r: f.milliseconds(r.latency.p50_ms)),
    Column("99th percentile", lambda r: f.milliseconds(r.latency.p99_ms)),
    Column("speedup there (95% interval)", lambda r: f.times(r.latency.ratio_to_reference) + _interval(r)),
    Column("over", lambda r: f.text(r.measured.reference), False),
    Column("threads", lambda r: str(r.latency.threads)),
    Column("peak memory", lambda r: f.size(_memory(r))),
)


def host_tables(record: RunRecord) -> list[Table]:
    """Lay out the latency on the machines of `measure.on`; no table where there are none."""
    rows = [
        HostRow(measured, measured.machine, variant, row)
        for measured in record.hosts or ()
        if measured.machine
        for variant, latency in measured.latency.items()
        for row in latency
    ]
    rows.sort(key=lambda row: (row.measured.host, row.latency.batch, row.measured.runtime))
    note = (
        "The files of this run, timed on other machines with the runtimes that are installed there, in interleaved "
        "rounds of several processes. A speedup is over the first reference that has such a file, on the same machine "
        "and in the same runtime and batch size; machines are not compared with each other. Peak memory is at the "
        "largest batch size."
    )
    return [make_table("hosts", "Latency on other machines", note, COLUMNS, rows)] if rows else []


def _interval(row: HostRow) -> str:
    return f.interval(row.latency.ratio_ci95)


def _memory(row: HostRow) -> int | None:
    return row.measured.peak_memory_bytes.get(row.variant)


def _version(row: HostRow) -> str:
    engines = [version for name, version in row.machine.packages.items() if name != "numpy" and version]
    return f" {f.plain(engines[0])}" if engines else ""
