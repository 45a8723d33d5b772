"""What a report says of quantization: which layers have which widths, how ranges were found, what stayed in float."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compress.report import formats as f
from compress.report.formats import field
from compress.report.tables import Column, Table, at, make

MAX_NAMES = 8

QUANTIZED = (
    Column("variant", at(f.text, "id"), False),
    Column("ranges by", at(f.text, "quantization", "observer"), False),
    Column("calibration images", at(f.text, "quantization", "calibration_images")),
    Column("layers in float", lambda r: _names(r["quantization"].get("keep") or []), False),
    Column("of them for the accuracy", lambda r: _names(r["quantization"].get("keep_found") or []), False),
    Column("networks tried", lambda r: f.text(len(r["quantization"].get("trials") or []))),
)


WIDTHS = (
    Column("variant", at(f.text, "variant"), False),
    Column("layers of the kind", at(f.text, "kind"), False),
    Column("weight bits", lambda r: "none" if r.get("weight_bits") is None else f.text(r["weight_bits"])),
    Column("activation bits", at(f.text, "activation_bits")),
    Column("layers", at(f.text, "layers")),
    Column("share of the MACs", at(f.percent, "macs_share")),
)


def quantization_tables(results: Mapping[str, Any]) -> list[Table]:
    """Those that have rows."""
    return [table for table in (widths_table(results), quantization_table(results)) if table.rows]


def widths_table(results: Mapping[str, Any]) -> Table:
    """In how many bits the layers of each quantized variant are."""
    rows = [
        {**row, "variant": variant.get("id")}
        for variant in results.get("variants") or []
        for row in field(variant, "inference", "widths") or []
    ]
    note = (
        "As the quantized network itself has them; 32 bits are float. What of it each runtime computes with integers "
        "is under the deployable files."
    )
    return make("widths", "Widths of the quantized layers", note, WIDTHS, rows)


def quantization_table(results: Mapping[str, Any]) -> Table:
    """Of every variant with layers in float, or for which they were looked for."""
    rows = [
        variant
        for variant in results.get("variants") or []
        if field(variant, "quantization", "keep") or field(variant, "quantization", "trials")
    ]
    note = (
        "Layers that go back to float for the accuracy on validation are those whose quantization alone changes the "
        "logits most."
    )
    return make("quantized", "Layers in float", note, QUANTIZED, rows)


def _names(names: list[str]) -> str:
    shown = ", ".join(f.plain(name) for name in names[:MAX_NAMES])
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return shown + more or "none"
