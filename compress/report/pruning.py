"""What a report says of pruning: the control beside it, sparse weights, sensitivity, and the search by latency."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from compress.report import formats as f
from compress.report.formats import field
from compress.report.svg import INK, MUTED, STYLES, chart_svg, legend, percent_axis, plain_axes
from compress.report.tables import Column, Record, Table, at, make

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USED = 1.1
"""A runtime that is less than so many times faster with zeros than without is said not to use them."""

CONTROLS = (
    Column("pruned", at(f.text, "pruned", "id"), False),
    Column("its top-1", at(f.percent, "pruned", "accuracy", "top1")),
    Column("control", at(f.text, "control", "id"), False),
    Column("its top-1", at(f.percent, "control", "accuracy", "top1")),
    Column("pruned against control (95% interval)", lambda r: f.points(r["loss"], r["loss_ci95"])),
    Column("MACs", lambda r: _both(r, f.count, "inference", "macs")),
    Column("training MACs", lambda r: _both(r, f.count, "training", "macs")),
)

SPARSITY = (
    Column("variant", at(f.text, "id"), False),
    Column("pattern", at(f.text, "sparsity", "pattern"), False),
    Column("weights at zero", lambda r: f.percent(r["sparsity"]["zeros"] / r["sparsity"]["weights"])),
    Column("size", at(f.size, "inference", "bytes")),
    Column("compressed by zlib", at(f.size, "sparsity", "compressed_bytes")),
    Column("compressed, before", at(f.size, "sparsity", "parent_compressed_bytes")),
    Column("times faster than before, by runtime", lambda r: _by_runtime(r["faster"]), False),
)

TRIALS = (
    Column("variant", at(f.text, "id"), False),
    Column("round", at(f.text, "round")),
    Column("MACs", at(f.count, "macs")),
    Column("median", at(f.milliseconds, "p50_ms")),
    Column("share of the dense latency (95% interval)", lambda r: _share(r)),
)


def pruning_tables(results: Mapping[str, Any]) -> list[tuple[Table, str | None]]:
    """The tables that a run has rows for, each with its chart (SVG) where it has one."""
    variants = {variant.get("id"): variant for variant in results.get("variants") or []}
    tables: list[tuple[Table, str | None]] = [
        (_controls(variants), None),
        (_sparsity(variants), None),
        (_trials(variants.values()), None),
    ]
    for variant in variants.values():
        by_round: dict[int, list[Record]] = {}
        for row in field(variant, "pruning", "sensitivity") or []:
            by_round.setdefault(row["round"], []).append(row)
        for number, rows in by_round.items():
            name = f.plain(variant["id"]) + (f", round {number}" if len(by_round) > 1 else "")
            tables.append((_sensitivity(name, rows), sensitivity_svg(name, rows)))
    return [(table, chart) for table, chart in tables if table.rows]


def _controls(variants: Mapping[Any, Record]) -> Table:
    rows = []
    for variant in variants.values():
        control = variant.get("control")
        if control and control.get("of") in variants:
            low, high = control["gain_ci95"]
            rows.append(
                {
                    "pruned": variants[control["of"]],
                    "control": variant,
                    "loss": -control["gain"],
                    "loss_ci95": [-high, -low],
                }
            )
    note = (
        "The control is the same network made narrower by the same share everywhere before it was ever trained, for as "
        "many epochs as the pruned one's whole training and repair had paid for. Where it is as accurate, pruning has "
        "gained nothing."
    )
    return make("controls", "Pruned against shrunk", note, CONTROLS, rows)


def _sparsity(variants: Mapping[Any, Record]) -> Table:
    rows: list[Record] = []
    best: dict[str, float] = {}
    for variant in variants.values():
        if variant.get("sparsity"):
            faster = _faster(variant, variants.get(variant.get("parent")))
            rows.append({**variant, "faster": faster})
            for runtime, _, ratio in faster:
                best[runtime] = max(ratio, best.get(runtime, 0.0))
    idle = [runtime for runtime, ratio in best.items() if ratio < USED]
    note = (
        "Weights that were zero already, as those that only ever meet padding, are not counted. The multiply-"
        "accumulates stay those of the dense network, because the shapes do."
    )
    if idle:
        note += f" Measured here, the zeros are not made use of by {' and '.join(sorted(idle))}."
    return make("sparsity", "Sparse weights", note, SPARSITY, rows)


def _faster(variant: Record, parent: Record | None) -> list[tuple[str, int, float]]:
    """(runtime, batch, times faster than the parent)."""
    before = {
        (row.get("runtime"), row.get("batch")): row.get("p50_ms") for row in field(parent, "inference", "latency") or []
    }
    rows = field(variant, "inference", "latency") or []
    pairs = [(row, before.get((row.get("runtime"), row.get("batch")))) for row in rows]
    return [(str(row["runtime"]), row["batch"], was / row["p50_ms"]) for row, was in pairs if was and row.get("p50_ms")]


def _trials(variants: Iterable[Record]) -> Table:
    rows = [
        {**row, "id": variant.get("id")}
        for variant in variants
        for row in field(variant, "pruning", "latency_trials") or []
    ]
    note = "Every network that was timed, in turns with the dense one, to find how many channels may remain."
    return make("trials", "Search by latency", note, TRIALS, rows)


def _sensitivity(name: str, rows: list[Record]) -> Table:
    by_layer: dict[str, dict[float, Record]] = {}
    for row in rows:
        by_layer.setdefault(" + ".join(map(f.plain, row["layers"])), {})[row["asked"]] = row
    columns = (
        Column("pruned alone", at(f.text, "layers"), False),
        *(Column(f"{100 * asked:g}% of its channels", _loss_at(asked)) for asked in sorted({r["asked"] for r in rows})),
    )
    note = (
        "Points of accuracy on validation that a layer's pruning costs, without repair (below zero it gains), and the "
        "share of its channels that really left. Layers whose outputs are added are pruned together."
    )
    records = [{"layers": layers, "tried": tried} for layers, tried in by_layer.items()]
    return make(f"sensitivity-{name}", f"Sensitivity of the layers: {name}", note, columns, records)


def _loss_at(asked: float) -> Callable[[Record], str]:
    def write(record: Record) -> str:
        row = record["tried"].get(asked)
        return f"{f.signed(100 * row['loss'])} ({100 * row['ratio']:.0f}%)" if row else "as the one before"

    return write


def sensitivity_svg(name: str, rows: list[Record]) -> str:
    """Accuracy lost against the share of a layer's channels, a line a layer; the most sensitive ones have names."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        curves.setdefault(f.plain(row["layers"][0]), [(0.0, 0.0)]).append((row["ratio"], row["loss"]))
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
        losses = [row["loss"] for row in rows]
        percent_axis(axes.yaxis, max(losses) - min(0, *losses))
        axes.set_xlabel("share of the layer's channels removed", color=MUTED)
        axes.set_ylabel("accuracy lost on validation", color=MUTED)
        plain_axes(axes)

    return chart_svg(f"Sensitivity of the layers: {name}", draw)


def _both(record: Record, write: Callable[[Any], str], *path: str) -> str:
    return f"{write(field(record['pruned'], *path))} / {write(field(record['control'], *path))}"


def _by_runtime(faster: list[tuple[str, int, float]]) -> str:
    return ", ".join(f"{f.plain(runtime)} b{batch} {f.times(ratio)}" for runtime, batch, ratio in faster) or f.UNKNOWN


def _share(row: Record) -> str:
    low, high = row["share_ci95"]
    return f"{row['share']:.2f} ({low:.2f} to {high:.2f})"
