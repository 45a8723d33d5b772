"""Table of speed and memory as others published them, apart from everything that was measured here."""

from __future__ import annotations

from compress.report import formats as f
from compress.report.tables import Column, Table, VariantRow, make_table, variant_rows
from compress.results import PublishedInference, RunRecord
from compress.utils.messages import significant

Row = VariantRow[PublishedInference]

NOT_STATED = "not stated"
NOTE = (
    "Nothing in this table was measured here, and nothing else in this report is computed from it; what this run "
    "measured is under Latency. The ratio is to the first row with the same device and setting; it has no interval, "
    "since none was published."
)


def published_tables(record: RunRecord) -> list[Table]:
    """Lay out published speed and memory; no table where the recipe states none."""
    rows = variant_rows(record, lambda variant: variant.published_inference)
    if not rows:
        return []
    first: dict[tuple[str, str], float] = {}
    for row in rows:
        first.setdefault(_setting(row), row.part.images_per_s)
    columns: tuple[Column[Row], ...] = (
        Column("variant", lambda r: f.plain(r.variant), False),
        Column("published for", lambda r: f.plain(r.part.model), False),
        Column("device", lambda r: f.plain(r.part.device), False),
        Column("setting", lambda r: f.plain(r.part.setting), False),
        Column("images per second", lambda r: significant(r.part.images_per_s, 4)),
        Column("ratio", lambda r: f.times(r.part.images_per_s / first[_setting(r)])),
        Column("latency of a batch", lambda r: _stated(r.part.latency_ms, f.milliseconds)),
        Column("memory", lambda r: _stated(r.part.memory_mb, lambda value: f.size(1e6 * (value or 0)))),
        Column("source", lambda r: f.plain(r.part.source), False),
    )
    return [make_table("published", "Published by others, not measured here", NOTE, columns, rows)]


def _setting(row: Row) -> tuple[str, str]:
    return row.part.device, row.part.setting


def _stated(value: float | None, write: f.Format) -> str:
    return NOT_STATED if value is None else write(value)
