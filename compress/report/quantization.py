"""What a report says of quantization: how ranges were found, and which layers stayed in float."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compress.report import formats as f
from compress.report.formats import field
from compress.report.tables import Column, Table, at, make

MOST_NAMES = 8

QUANTIZED = (
    Column("variant", at(f.text, "id"), False),
    Column("ranges by", at(f.text, "quantization", "observer"), False),
    Column("calibration images", at(f.text, "quantization", "calibration_images")),
    Column("layers in float", lambda r: _names(r["quantization"].get("keep") or []), False),
    Column("of them for the accuracy", lambda r: _names(r["quantization"].get("keep_found") or []), False),
    Column("networks tried", lambda r: f.text(len(r["quantization"].get("trials") or []))),
)


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
    shown = ", ".join(f.plain(name) for name in names[:MOST_NAMES])
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return shown + more or "none"
