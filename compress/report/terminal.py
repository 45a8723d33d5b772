"""The table that ends a run in the terminal; it fits 80 columns with two references."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.efficiency.headline import is_saving
from compress.report import formats as f
from compress.report.savings import grant_label
from compress.report.tables import Column
from compress.results import RunRecord, Savings, Variant, VariantSavings

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


CAPTION = "granted: doublings in MACs / in bit operations; not granted: measured points of accuracy"
COLUMNS: tuple[Column[Variant], ...] = (
    Column("variant", lambda v: f.plain(v.id), False),
    Column("top-1 (95%)", lambda v: f.accuracy(v.accuracy.top1, v.accuracy.ci95).replace(" to ", "–")),
    Column("MACs", lambda v: f.count(v.inference.macs)),
    Column("size", lambda v: f.size(v.inference.bytes)),
)


def terminal_table(record: RunRecord) -> Table:
    """Lay out the variants with their main figures and savings; names are text, never rich's markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    references = record.efficiency
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=CAPTION if references else None, caption_justify="left")
    for column in COLUMNS:
        table.add_column(Text(column.heading), justify="right" if column.figure else "left", no_wrap=column.figure)
    for savings in references:
        table.add_column(Text(f"against {f.plain(savings.reference)}"))
    for variant in record.variants:
        cells = [Text(column.write(variant)) for column in COLUMNS]
        table.add_row(*cells, *(_savings_cell(savings, variant.id) for savings in references))
    return table


def _savings_cell(savings: Savings, id: str) -> Text:
    from rich.text import Text

    if id == savings.reference:
        return Text("reference", style="dim")
    variant = next((variant for variant in savings.variants if variant.id == id), None)
    if variant is None:
        return Text(f.UNKNOWN, style="dim")
    if is_saving(variant):
        saved = variant.doublings
        return Text(f"granted {f.signed(saved.macs)} / {f.signed(saved.bit_operations)}", style="green")
    if variant.granted:
        return Text("not cheaper", style="dim")
    return Text(grant_label(variant) + _measured(variant), style="yellow")


def _measured(variant: VariantSavings) -> str:
    """The measured difference in points: of a variant that is not shown to be as accurate, what it may still lose."""
    loss, ends = variant.accuracy_difference, variant.difference_ci95
    if loss is None:
        return ""
    points = 100 * loss
    if round(points, 1) > 0:
        return f": {points:.1f} less"
    measured = f"{-points:.1f} more" if round(points, 1) < 0 else "no difference"
    return f": {measured}, up to {100 * ends[1]:.1f} less" if ends else f": {measured}"
