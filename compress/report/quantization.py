"""Tables of quantization: bit widths by layer, how ranges were found, and which layers stayed in float."""

from __future__ import annotations

from collections.abc import Sequence

from compress.report import formats as f
from compress.report.tables import Column, Table, VariantRow, make_table, variant_rows
from compress.results import LayerWidths, Quantization, RunRecord

MAX_NAMES = 8

QUANTIZED: tuple[Column[VariantRow[Quantization]], ...] = (
    Column("variant", lambda r: f.plain(r.variant), False),
    Column("observer", lambda r: f.text(r.part.observer), False),
    Column("calibration images", lambda r: f.text(r.part.calibration_images)),
    Column("layers in float", lambda r: _truncated(r.part.keep), False),
    Column("of which for accuracy", lambda r: _truncated(r.part.keep_found or ()), False),
    Column("networks tried", lambda r: str(len(r.part.trials or ()))),
)

WIDTHS: tuple[Column[VariantRow[LayerWidths]], ...] = (
    Column("variant", lambda r: f.plain(r.variant), False),
    Column("kind of layer", lambda r: f.plain(r.part.kind), False),
    Column("weight bits", lambda r: "none" if r.part.weight_bits is None else str(r.part.weight_bits)),
    Column("activation bits", lambda r: str(r.part.activation_bits)),
    Column("layers", lambda r: str(r.part.layers)),
    Column("share of the MACs", lambda r: f.percent(r.part.macs_share)),
)


def quantization_tables(record: RunRecord) -> list[Table]:
    """Lay out bit widths and layers in float; tables without rows are left out."""
    return [table for table in (_widths(record), _quantized(record)) if table.rows]


def _widths(record: RunRecord) -> Table:
    note = (
        "Of the quantized network itself; 32 bits are float. The share that each runtime executes in integer is given "
        "with the deployable files."
    )
    rows = variant_rows(record, lambda variant: variant.inference.widths)
    return make_table("widths", "Widths of the quantized layers", note, WIDTHS, rows)


def _quantized(record: RunRecord) -> Table:
    """Variants with layers in float, or with a search for them."""
    note = (
        "Layers returned to float for validation accuracy are those whose quantization alone changes the logits most."
    )
    rows = [
        VariantRow(variant.id, quantization)
        for variant in record.variants
        if (quantization := variant.quantization) and (quantization.keep or quantization.trials)
    ]
    return make_table("quantized", "Layers in float", note, QUANTIZED, rows)


def _truncated(layers: Sequence[str]) -> str:
    more = f" and {len(layers) - MAX_NAMES} more" if len(layers) > MAX_NAMES else ""
    return f.names(layers[:MAX_NAMES]) + more or "none"
