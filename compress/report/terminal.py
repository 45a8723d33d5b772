"""The table that ends a run in the terminal; it fits 80 columns with two references."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compress.report import formats as f
from compress.report.formats import field
from compress.report.tables import Column, at, grant_word, is_saving

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


COLUMNS = (
    Column("variant", at(f.text, "id"), False),
    Column("top-1 (95%)", lambda record: f.accuracy(record.get("accuracy")).replace(" to ", "–")),
    Column("MACs", at(f.count, "inference", "macs")),
    Column("size", at(f.size, "inference", "bytes")),
)


def terminal_table(results: Mapping[str, Any]) -> Table:
    """Variants with their main figures, and what each is worth against each reference.

    Args:
        results: A `results.json`; names in it are shown as text, never read as rich's markup.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    entries = results.get("efficiency") or []
    caption = "granted: doublings in MACs / in bit operations; not granted: points of accuracy" if entries else None
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=caption, caption_justify="left")
    for column in COLUMNS:
        table.add_column(Text(column.heading), justify="right" if column.figure else "left", no_wrap=column.figure)
    for entry in entries:
        table.add_column(Text(f"against {f.plain(entry.get('reference'))}"))
    for variant in results.get("variants") or []:
        cells = [Text(column.write(variant)) for column in COLUMNS]
        table.add_row(*cells, *(_worth_cell(entry, variant.get("id")) for entry in entries))
    return table


def _worth_cell(entry: Mapping[str, Any], id: Any) -> Text:
    from rich.text import Text

    if id == entry.get("reference"):
        return Text("reference", style="dim")
    record = next((r for r in entry.get("variants") or [] if r.get("id") == id), None)
    if record is None:
        return Text(f.UNKNOWN, style="dim")
    if is_saving(record):
        saved = (f.signed(field(record, "doublings", cost)) for cost in ("macs", "bit_operations"))
        return Text(f"granted {' / '.join(saved)}", style="green")
    if record.get("granted"):
        return Text("not cheaper", style="dim")
    difference = record.get("accuracy_difference")
    lost = f" {f.months(-100 * difference)}" if difference is not None else ""
    return Text(grant_word(record) + lost, style="yellow")
