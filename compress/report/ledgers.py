"""The three ledgers of a report, each apart: training compute, the life of a deployed model, and the compute gap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from compress.gap.record import NOT_OF_TRAINING, RunSaving, basis_of, to_dict
from compress.gap.trend import Trend
from compress.report import formats as f
from compress.report.formats import field
from compress.report.ledger_charts import curves_svg, gap_svg, lifetime_svg, spent_svg
from compress.report.tables import Column, Record, Table, at, break_even, is_saving, make

GAP_YEARS = (2012, 2024)
"""The years that the gap is given for, those of the essay that it is discussed with."""

SPENT = (
    Column("variant", at(f.text, "variant"), False),
    Column("what", at(f.text, "what"), False),
    Column("MACs", at(f.macs, "macs")),
    Column("share", at(f.percent, "share")),
)

REACHED = (
    Column("baseline", at(f.text, "baseline"), False),
    Column("variant", at(f.text, "variant"), False),
    Column("to reach", lambda row: f.percent(row["target_top1"]) + (" (chosen)" if row.get("chosen") else "")),
    Column("baseline's compute", lambda row: _taken(row.get("baseline_macs"))),
    Column("variant's compute", lambda row: _taken(row.get("variant_macs"))),
    Column("times less", lambda row: _reached_by(row)),
    Column("doublings", lambda row: _bounded(row, f.signed(row.get("doublings")))),
    Column("with the teacher's own training", at(f.times, "with_teacher_pretraining", "ratio")),
    Column("months of growth", lambda row: _bounded(row, f.months(row.get("months_of_growth")))),
    Column("months of gap", lambda row: _bounded(row, f.months(row.get("months_of_gap")))),
)

MILLION = (
    Column("variant", at(f.text, "id"), False),
    Column("runtime", at(f.text, "runtime"), False),
    Column("precision", at(f.text, "precision"), False),
    Column("batch", at(f.text, "batch")),
    Column("time", at(f.seconds, "seconds")),
    Column("price", lambda row: _price(row)),
)

SAVINGS = (
    Column("saving in", at(f.text, "of"), False),
    Column("variant", at(f.text, "variant"), False),
    Column("against", at(f.text, "against"), False),
    Column("doublings", at(f.signed, "doublings")),
    Column("months of growth", at(f.months, "months_of_growth")),
    Column("months of gap", lambda row: "none" if row["months_of_gap"] is None else f.months(row["months_of_gap"])),
)


def ledgers(results: Mapping[str, Any]) -> list[tuple[Table, str | None]]:
    """The tables of the ledgers, each with its chart (SVG) where there is something to draw.

    The ledger of training and its efficiency are always there; the others where the run has rows for them.
    """
    parts: list[tuple[Table, str | None]] = [
        (_spent(results), spent_svg(results)),
        (_reached(results), curves_svg(results)),
    ]
    for entry in results.get("efficiency") or []:
        parts.append((_lifetime(entry), lifetime_svg(entry)))
    parts += [(_million(results), None), *_gap(results)]
    return [(table, chart) for table, chart in parts if table.rows or table.key in ("ledger", "training")]


def _spent(results: Mapping[str, Any]) -> Table:
    variants = results.get("variants") or []
    rows = [
        {**part, "variant": variant.get("id"), "share": _share(part.get("macs"), field(variant, "training", "macs"))}
        for variant in variants
        for part in field(variant, "training", "parts") or []
    ]
    note = "Everything spent to make a variant, in MACs. A teacher's own training is not in it"
    known = {
        f"{f.macs(told['macs'])} ({f.plain(told['source'])})"
        for variant in variants
        if (told := field(variant, "training", "teacher_pretraining")) and told.get("macs")
    }
    note += f": it took {' and '.join(sorted(known))}." if known else "."
    lost = [(v.get("id"), cost) for v in variants if (cost := field(v, "training", "interrupted"))]
    if lost:
        lines = ", ".join(f"{f.plain(name)} {f.macs(cost)}" for name, cost in lost)
        note += f" Lost to interruptions, and not in it either: at least {lines}."
    return make("ledger", "Training ledger", note, SPENT, rows)


def _reached(results: Mapping[str, Any]) -> Table:
    note = (
        "Compute to reach an accuracy on validation: the baseline's own last one, and those that the recipe chose; "
        "first point at or above it, one run each, so without an interval. Where the baseline never got there, figures "
        "are bounds. Only here a saving is in training compute, and delays the training gap: once."
    )
    return make("training", "Training efficiency", note, REACHED, results.get("training_efficiency") or [])


def _lifetime(entry: Mapping[str, Any]) -> Table:
    """R(Q) of every variant that is granted."""
    rows = [record for record in entry.get("variants") or [] if record.get("lifetime") and is_saving(record)]
    asked = sorted({at["queries"] for record in rows for at in record["lifetime"]["at_queries"]})
    columns = [
        Column("variant", at(f.text, "id"), False),
        Column("made on top, MACs", at(f.macs, "lifetime", "effort")),
        Column("break-even", break_even),
        *(Column(f"after {f.queries(q)} queries", _ratio_at(q)) for q in asked),
        Column("limit", at(f.times, "lifetime", "limit")),
    ]
    shares = {field(record, "lifetime", "at_inference_share", "share") for record in rows} - {None}
    for share in sorted(shares):
        columns.append(Column(f"at {100 * share:g}% inference", at(f.times, "lifetime", "at_inference_share", "ratio")))
        columns.append(Column("ceiling of any saving, then", at(f.times, "lifetime", "at_inference_share", "ceiling")))
    reference = f.plain(entry.get("reference"))
    note = (
        f"How many times less a variant costs than {reference} from its making through so many queries, in MACs: "
        "training and inference of the one over those of the other. Queries that a response cache answers cost neither."
    )
    return make(f"lifetime-{reference}", f"Lifetime against {reference}", note, columns, rows)


def _ratio_at(queries: float) -> Any:
    def write(record: Record) -> str:
        found = [at["ratio"] for at in record["lifetime"]["at_queries"] if at["queries"] == queries]
        return f.times(found[0] if found else None)

    return write


def _million(results: Mapping[str, Any]) -> Table:
    """Time, price and, where there is any, energy of a million images."""
    profile, rows = field(results, "deployment", "profile") or {}, field(results, "deployment", "variants") or []
    note = f"On the machine that latency was measured on, never idle. {f.plain(profile.get('source') or '')}"
    priced = [{**row, "currency": profile.get("currency")} for row in rows]
    energy = (Column("energy", at(f.joules, "energy_j")),) if any(row.get("energy_j") for row in rows) else ()
    return make("million", "A million images", note.strip(), (*MILLION, *energy), priced)


def _gap(results: Mapping[str, Any]) -> Iterator[tuple[Table, str | None]]:
    """What the run's savings are, held against the growth of compute."""
    trend = next((entry["trend"] for entry in results.get("efficiency") or [] if entry.get("trend")), None)
    savings = [saving for saving in _savings(results) if saving.doublings > 0]
    if trend is None or not savings:
        return
    basis = to_dict(basis_of(Trend(**trend), *GAP_YEARS, savings))
    note = f"By the trend {f.plain(trend.get('name'))}: {f.plain(trend.get('basis'))}."
    if any(saving.of == "inference" for saving in savings):
        note += f" {NOT_OF_TRAINING}"
    note += "".join(f" {line}" for line in sorted({s["hold"] for s in basis["savings"] if s["hold"]}))
    yield make("gap", "The compute gap", note, SAVINGS, basis["savings"]), gap_svg(basis, *GAP_YEARS)


def _savings(results: Mapping[str, Any]) -> Iterator[RunSaving]:
    """`compress.gap.record.run_savings` for the plain data that a report is still made from."""
    for entry in results.get("efficiency") or []:
        for record in entry["variants"]:
            if record.get("granted") and (saved := (record["doublings"] or {}).get("macs") or 0) > 0:
                yield RunSaving("inference", record["id"], entry["reference"], saved)
    for entry in results.get("training_efficiency") or []:
        if entry["doublings"] is not None and not entry.get("chosen"):
            yield RunSaving("training", entry["variant"], entry["baseline"], entry["doublings"])


def _share(part: float | None, total: float | None) -> float | None:
    return part / total if part is not None and total else None


def _taken(macs: float | None) -> str:
    return "not reached" if macs is None else f.macs(macs)


def _reached_by(row: Record) -> str:
    if row.get("ratio") is None:
        return "not reached" if row.get("censored") else f.UNKNOWN
    return _bounded(row, f.times(row["ratio"]))


def _bounded(row: Record, words: str) -> str:
    """A baseline that never got there would have taken more than all that it took."""
    return f"at least {words}" if row.get("censored") and row.get("ratio") is not None else words


def _price(row: Record) -> str:
    return f.UNKNOWN if row.get("price") is None else f"{row['price']:.3g} {f.plain(row.get('currency'))}"
