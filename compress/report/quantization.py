"""Tables of quantization: bit widths by layer, layers in float, and which layers and calibration sets cost accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from compress.report import formats as f
from compress.report.tables import Column, Table, VariantRow, make_table, variant_rows
from compress.results import LayerNoise, LayerWidths, Quantization, QuantizationNoise, RunRecord
from compress.utils.messages import significant

MAX_NAMES = 8
WORST = 5  # layers of a variant

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

NOISE: tuple[Column[VariantRow[LayerNoise]], ...] = (
    Column("variant", lambda r: f.plain(r.variant), False),
    Column("layer", lambda r: f.plain(r.part.layer), False),
    Column("error removed in float", lambda r: _share(r.part.removes)),
    Column("mostly by", lambda r: r.part.cause, False),
    Column("SQNR alone", lambda r: _decibels(r.part.sqnr_db)),
    Column("SQNR in the network", lambda r: _decibels(r.part.network_sqnr_db)),
    Column("calibration range", lambda r: _range(r.part.range)),
    Column("integer range", lambda r: _range(r.part.quantized_range)),
    Column("saturated", lambda r: _share(r.part.saturated)),
    Column("saturated on validation", lambda r: _share(r.part.saturated_validation)),
)

CALIBRATION: tuple[Column[VariantRow[QuantizationNoise]], ...] = (
    Column("variant", lambda r: f.plain(r.variant), False),
    Column("calibration images", lambda r: str(r.part.calibration_images)),
    Column("covers validation", lambda r: {True: "yes", False: "no", None: "unknown"}[r.part.covers], False),
    Column("values beyond its range", lambda r: _share(r.part.outside)),
    Column("range of half of the images", lambda r: _share(r.part.half_range)),
    Column("SQNR of the logits", lambda r: _decibels(r.part.logits_sqnr_db)),
)


def quantization_tables(record: RunRecord) -> list[Table]:
    """Lay out bit widths and layers in float; tables without rows are left out."""
    return [
        table for table in (_widths(record), _quantized(record), _noise(record), _calibration(record)) if table.rows
    ]


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


def _noise(record: RunRecord) -> Table:
    """The layers of each variant that explain most of its error."""
    note = (
        f"The {WORST} layers of each variant whose return to float alone removes most of the squared error of the "
        "logits, on at most 8 validation images. SQNR: power of a layer's output to power of its error on the "
        "calibration set, if it alone is quantized and in the quantized network; each bit is worth 6 dB. Ranges and "
        "saturation are those of the layer's input. For networks that torchao calibrated; files by other methods are "
        "not examined."
    )
    rows = [VariantRow(id, layer) for id, noise in _examined(record) for layer in noise.layers[:WORST]]
    return make_table("noise", "Layers that INT8 hurts", note, NOISE, rows)


def _calibration(record: RunRecord) -> Table:
    """How far the calibration set of each variant covers validation, and depends on its size."""
    note = (
        "Values beyond the range of the calibration set: of the layer with most of them, on at most 64 validation "
        "images; a set does not cover validation where they are more than 0.1%, in more than a tenth of the images. "
        "A random half of the calibration images finds this share of the range that all find, on average over layers: "
        "the closer to 100%, the less would more images change."
    )
    rows = [VariantRow(id, noise) for id, noise in _examined(record)]
    return make_table("calibration-set", "Calibration sets", note, CALIBRATION, rows)


def _examined(record: RunRecord) -> list[tuple[str, QuantizationNoise]]:
    """Variants whose errors were measured, by id."""
    found = ((variant.id, variant.quantization.noise) for variant in record.variants if variant.quantization)
    return [(id, noise) for id, noise in found if noise]


def _share(value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{100 * value:.2g}%" if abs(value) < 0.1 else f"{100 * value:.0f}%"


def _decibels(value: float | None) -> str:
    return "no error" if value is None else f"{value:.1f} dB"


def _range(ends: tuple[float, float]) -> str:
    return f"{significant(ends[0])} to {significant(ends[1])}"


def _truncated(layers: Sequence[str]) -> str:
    more = f" and {len(layers) - MAX_NAMES} more" if len(layers) > MAX_NAMES else ""
    return f.names(layers[:MAX_NAMES]) + more or "none"
