"""Tables of pruning: against its control, sparse weights, sensitivity of the layers, and the search by latency."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from compress.efficiency.files import name_of
from compress.report import formats as f
from compress.report.svg import INK, MUTED, STYLES, chart_svg, legend, percent_axis, plain_axes
from compress.report.tables import Column, Table, VariantRow, make_table, variant_rows, variants_by_id
from compress.results import Control, LatencyTrial, LayerSensitivity, RunRecord, Sparsity, Variant

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MIN_SPEEDUP = 1.1  # a runtime that is less than so many times faster with zeros than without counts as not using them


@dataclass(frozen=True)
class ControlRow:
    """A pruned variant, its control, and the accuracy of the one against the other."""

    pruned: Variant
    shrunk: Variant
    control: Control


@dataclass(frozen=True)
class SparseRow:
    """A sparse variant with (runtime, batch, times faster than its parent)."""

    variant: Variant
    sparsity: Sparsity
    speedups: tuple[tuple[str, int, float], ...]


def control_columns(variant: str, *costs: Column[ControlRow]) -> tuple[Column[ControlRow], ...]:
    """Columns that compare a `variant` with its control, with further `costs` before training MACs."""
    return (
        Column(variant, lambda r: f.plain(r.pruned.id), False),
        Column("its top-1", lambda r: f.percent(r.pruned.accuracy.top1)),
        Column("control", lambda r: f.plain(r.shrunk.id), False),
        Column("its top-1", lambda r: f.percent(r.shrunk.accuracy.top1)),
        Column(
            f"{variant} against control (95% interval)",
            lambda r: f.points(-r.control.gain, [-end for end in reversed(r.control.gain_ci95)]),
        ),
        *costs,
        Column("training MACs", lambda r: f"{f.count(r.pruned.training.macs)} / {f.count(r.shrunk.training.macs)}"),
    )


CONTROLS = control_columns(
    "pruned", Column("MACs", lambda r: f"{f.count(r.pruned.inference.macs)} / {f.count(r.shrunk.inference.macs)}")
)

SPARSITY: tuple[Column[SparseRow], ...] = (
    Column("variant", lambda r: f.plain(r.variant.id), False),
    Column("pattern", lambda r: f.plain(r.sparsity.pattern), False),
    Column("weights at zero", lambda r: f.percent(r.sparsity.zeros / r.sparsity.weights)),
    Column("size", lambda r: f.size(r.variant.inference.bytes)),
    Column("size after zlib", lambda r: f.size(r.sparsity.compressed_bytes)),
    Column("parent's size after zlib", lambda r: f.size(r.sparsity.parent_compressed_bytes)),
    Column("speedup over the parent, by runtime", lambda r: _by_runtime(r.speedups), False),
)

TRIALS: tuple[Column[VariantRow[LatencyTrial]], ...] = (
    Column("variant", lambda r: f.plain(r.variant), False),
    Column("round", lambda r: str(r.part.round)),
    Column("MACs", lambda r: f.count(r.part.macs)),
    Column("median", lambda r: f.milliseconds(r.part.p50_ms)),
    Column("share of the dense latency (95% interval)", lambda r: _share(r.part)),
)


def pruning_tables(record: RunRecord) -> list[Table]:
    """Lay out the results of pruning and sparsifying; tables without rows are left out."""
    variants = variants_by_id(record)
    tables = [_controls(variants), _sparsity(variants), _trials(record)]
    for variant in record.variants:
        rounds: dict[int, list[LayerSensitivity]] = {}
        for row in (variant.pruning.sensitivity if variant.pruning else None) or ():
            rounds.setdefault(row.round, []).append(row)
        for number, rows in rounds.items():
            tables.append(_sensitivity(f.plain(variant.id) + (f", round {number}" if len(rounds) > 1 else ""), rows))
    return [table for table in tables if table.rows]


def _controls(variants: Mapping[str, Variant]) -> Table:
    rows = [
        ControlRow(variants[control.of], variant, control)
        for variant in variants.values()
        if (control := variant.control) and control.of in variants and control.repeats is None
    ]
    note = (
        "The control is the same network, narrowed by a uniform share before training, and trained for as many epochs "
        "as the pruned one's training and repair together. Where it is as accurate, pruning has gained nothing."
    )
    return make_table("controls", "Pruned against shrunk", note, CONTROLS, rows)


def _sparsity(variants: Mapping[str, Variant]) -> Table:
    rows = [
        SparseRow(variant, sparsity, _speedups(variant, variants.get(variant.parent or "")))
        for variant in variants.values()
        if (sparsity := variant.sparsity)
    ]
    best: dict[str, float] = {}
    for runtime, _, ratio in (speedup for row in rows for speedup in row.speedups):
        best[runtime] = max(ratio, best.get(runtime, 0.0))
    idle = sorted(runtime for runtime, ratio in best.items() if ratio < MIN_SPEEDUP)
    note = (
        "Weights that were already zero, e.g. because they only see padding, are not counted. MACs remain those of the "
        "dense network, because the shapes do."
    )
    if idle:
        note += f" No speedup from the zeros was measured in {' and '.join(idle)}."
    return make_table("sparsity", "Sparse weights", note, SPARSITY, rows)


def _speedups(variant: Variant, parent: Variant | None) -> tuple[tuple[str, int, float], ...]:
    before = {(name_of(row), row.batch): row.p50_ms for row in parent.inference.latency} if parent else {}
    return tuple(
        (name_of(row), row.batch, parent_ms / row.p50_ms)
        for row in variant.inference.latency
        if (parent_ms := before.get((name_of(row), row.batch)))
    )


def _trials(record: RunRecord) -> Table:
    note = "Networks benchmarked in rounds interleaved with the dense one, to find how many channels may remain."
    rows = variant_rows(record, lambda variant: variant.pruning.latency_trials if variant.pruning else None)
    return make_table("trials", "Search by latency", note, TRIALS, rows)


def _sensitivity(name: str, rows: Sequence[LayerSensitivity]) -> Table:
    layers: dict[str, dict[float, LayerSensitivity]] = {}
    for row in rows:
        layers.setdefault(" + ".join(map(f.plain, row.layers)), {})[row.asked] = row
    columns: tuple[Column[tuple[str, dict[float, LayerSensitivity]]], ...] = (
        Column("pruned alone", lambda item: item[0], False),
        *(
            Column(f"{100 * requested:g}% of its channels", _loss_at(requested))
            for requested in sorted({row.asked for row in rows})
        ),
    )
    note = (
        "Points of validation accuracy lost when only this layer is pruned, without repair (negative: gained), and the "
        "share of its channels that was removed. Layers whose outputs are added are pruned together."
    )
    title = f"Sensitivity of the layers: {name}"
    chart = partial(sensitivity_svg, name, rows)
    return make_table(f"sensitivity-{name}", title, note, columns, layers.items(), chart)


def _loss_at(requested: float) -> Callable[[tuple[str, dict[float, LayerSensitivity]]], str]:
    def write(item: tuple[str, dict[float, LayerSensitivity]]) -> str:
        row = item[1].get(requested)
        return f"{f.signed(100 * row.loss)} ({100 * row.ratio:.0f}%)" if row else "same as the previous"

    return write


def sensitivity_svg(name: str, rows: Sequence[LayerSensitivity]) -> str:
    """Draw accuracy lost against the share of a layer's channels, a line per layer; the most sensitive are named."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        curves.setdefault(f.plain(row.layers[0]), [(0.0, 0.0)]).append((row.ratio, row.loss))
    worst = sorted(curves, key=lambda layer: -max(loss for _, loss in curves[layer]))[: len(STYLES)]

    def draw(figure: Figure) -> None:
        from matplotlib.ticker import PercentFormatter

        axes = figure.add_subplot()
        for layer, points in curves.items():
            xs, ys = zip(*sorted(points), strict=True)
            named = layer in worst
            axes.plot(
                xs,
                ys,
                color=INK if named else MUTED,
                linestyle=STYLES[worst.index(layer)] if named else "-",
                linewidth=1.6 if named else 0.8,
                marker="o",
                markersize=3,
                label=layer if named else None,
            )
        legend(figure)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        losses = [row.loss for row in rows]
        percent_axis(axes.yaxis, max(losses) - min(0, *losses))
        axes.set_xlabel("share of the layer's channels removed", color=MUTED)
        axes.set_ylabel("accuracy lost on validation", color=MUTED)
        plain_axes(axes)

    return chart_svg(f"Sensitivity of the layers: {name}", draw)


def _by_runtime(speedups: Sequence[tuple[str, int, float]]) -> str:
    return ", ".join(f"{f.plain(runtime)} b{batch} {f.times(ratio)}" for runtime, batch, ratio in speedups) or f.UNKNOWN


def _share(trial: LatencyTrial) -> str:
    low, high = trial.share_ci95
    return f"{trial.share:.2f} ({low:.2f} to {high:.2f})"
