"""Tables of the ledgers, each on its own: training compute, the lifetime of a deployed model, and the compute gap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from compress.gap.record import NOT_OF_TRAINING, SavingInMonths, basis_of, run_savings
from compress.gap.trend import Trend
from compress.report import formats as f
from compress.report.ledger_charts import curves_svg, gap_svg, lifetime_svg, spent_svg
from compress.report.savings import break_even, lifetimes
from compress.report.tables import Column, Table, VariantRow, make_table
from compress.results import (
    Lifetime,
    MillionImages,
    RunRecord,
    Savings,
    ShareRatio,
    TrainingEfficiency,
    TrainingPart,
    VariantSavings,
)

GAP_YEARS = (2012, 2024)
"""Years that the gap is given for, those of the essay in which it is discussed."""

SPENT: tuple[Column[VariantRow[tuple[TrainingPart, int]]], ...] = (
    Column("variant", lambda r: f.plain(r.variant), False),
    Column("what", lambda r: f.plain(r.part[0].what), False),
    Column("MACs", lambda r: f.macs(r.part[0].macs)),
    Column("share", lambda r: f.percent(r.part[0].macs / r.part[1] if r.part[1] else None)),
)

REACHED: tuple[Column[TrainingEfficiency], ...] = (
    Column("baseline", lambda t: f.plain(t.baseline), False),
    Column("variant", lambda t: f.plain(t.variant), False),
    Column("target top-1", lambda t: f.percent(t.target_top1) + (" (chosen)" if t.chosen else "")),
    Column("baseline's compute", lambda t: _compute(t.baseline_macs)),
    Column("variant's compute", lambda t: _compute(t.variant_macs)),
    Column("compute ratio", lambda t: _times_less(t)),
    Column("doublings", lambda t: _bounded(t, f.signed(t.doublings))),
    Column("ratio with teacher pre-training", lambda t: f.times(t.with_teacher_pretraining.ratio)),
    Column("months of growth", lambda t: _bounded(t, f.months(t.months_of_growth))),
    Column("months of gap", lambda t: _bounded(t, f.months(t.months_of_gap))),
)

Granted = tuple[VariantSavings, Lifetime]

SAVINGS: tuple[Column[SavingInMonths], ...] = (
    Column("saving in", lambda s: s.of, False),
    Column("variant", lambda s: f.plain(s.variant), False),
    Column("against", lambda s: f.plain(s.against), False),
    Column("doublings", lambda s: f.signed(s.doublings)),
    Column("months of growth", lambda s: f.months(s.months_of_growth)),
    Column("months of gap", lambda s: "none" if s.months_of_gap is None else f.months(s.months_of_gap)),
)


def ledgers(record: RunRecord) -> list[Table]:
    """Lay out the ledgers. Training and its efficiency are always there; the others where the run has rows for them."""
    optional = [*map(_lifetime, record.efficiency), *_million(record), *_gap(record)]
    return [_spent(record), _reached(record), *(table for table in optional if table.rows)]


def _spent(record: RunRecord) -> Table:
    rows = [
        VariantRow(variant.id, (part, variant.training.macs))
        for variant in record.variants
        for part in variant.training.parts
    ]
    note = "All compute spent to make a variant. The teacher's own training is not included"
    teachers = [variant.training.teacher_pretraining for variant in record.variants]
    known = {f"{f.macs(teacher.macs)} ({f.text(teacher.source)})" for teacher in teachers if teacher and teacher.macs}
    note += f": it took {' and '.join(sorted(known))}." if known else "."
    lost = ", ".join(
        f"{f.plain(variant.id)} {f.macs(variant.training.interrupted)}"
        for variant in record.variants
        if variant.training.interrupted
    )
    if lost:
        note += f" Lost to interruptions and not included: at least {lost}."
    return make_table("ledger", "Training ledger", note, SPENT, rows, partial(spent_svg, record))


def _reached(record: RunRecord) -> Table:
    note = (
        "Training compute to reach an accuracy on validation: the baseline's last one, and those that the recipe sets. "
        "The first point at or above it counts, in one run each, so there is no interval; where the baseline never "
        "reaches it, figures are bounds. Only savings in training compute delay the training gap, and only once."
    )
    rows, chart = record.training_efficiency, partial(curves_svg, record)
    return make_table("training", "Training efficiency", note, REACHED, rows, chart)


def _lifetime(savings: Savings) -> Table:
    rows = lifetimes(savings)
    columns: list[Column[Granted]] = [
        Column("variant", lambda row: f.plain(row[0].id), False),
        Column("extra training MACs", lambda row: f.macs(row[1].effort)),
        Column("break-even", lambda row: break_even(row[0])),
        *(
            Column(f"after {f.queries(queries)} queries", _ratio_after(queries))
            for queries in sorted({point.queries for _, life in rows for point in life.at_queries})
        ),
        Column("limit", lambda row: f.times(row[1].limit)),
    ]
    for share in sorted({life.at_inference_share.share for _, life in rows if life.at_inference_share}):
        columns += [
            Column(f"at {100 * share:g}% inference", _at_share(lambda at: at.ratio)),
            Column("ceiling at that share", _at_share(lambda at: at.ceiling)),
        ]
    reference = f.plain(savings.reference)
    note = (
        f"Lifetime ratio: MACs of {reference} for training and so many queries, divided by the variant's. Queries that "
        "a response cache serves cost neither of them anything."
    )
    title, chart = f"Lifetime against {reference}", partial(lifetime_svg, savings)
    return make_table(f"lifetime-{reference}", title, note, columns, rows, chart)


def _ratio_after(queries: float) -> Callable[[Granted], str]:
    return lambda row: f.times(next((at.ratio for at in row[1].at_queries if at.queries == queries), None))


def _at_share(ratio: Callable[[ShareRatio], float]) -> Callable[[Granted], str]:
    return lambda row: f.times(ratio(row[1].at_inference_share) if row[1].at_inference_share else None)


def _million(record: RunRecord) -> Iterator[Table]:
    """Time, price and energy of a million images, or why they are unknown."""
    deployment = record.deployment
    if deployment is None:
        return
    profile, rows = deployment.profile, deployment.variants
    columns: list[Column[MillionImages]] = [
        Column("variant", lambda m: f.plain(m.id), False),
        Column("runtime", lambda m: f.text(m.runtime), False),
        Column("precision", lambda m: f.text(m.precision), False),
        Column("batch", lambda m: f.text(m.batch)),
        Column("time", lambda m: f.seconds(m.seconds)),
        Column("price", lambda m: f.UNKNOWN if m.price is None else f"{m.price:.3g} {f.plain(profile.currency)}"),
    ]
    if any(row.energy_j for row in rows):
        columns.append(Column("energy", lambda m: f.joules(m.energy_j)))
    if any(row.reason for row in rows):
        columns.append(Column("unknown because", lambda m: f.plain(m.reason or ""), False))
    note = f"On {f.plain(profile.name)} at full load, by its own row of latency. {f.plain(profile.source)}"
    yield make_table("million", "A million images", note.strip(), columns, rows)


def _gap(record: RunRecord) -> Iterator[Table]:
    """The run's savings against the growth of compute."""
    savings = [saving for saving in run_savings(record) if saving.doublings > 0]
    if not record.efficiency or not savings:
        return
    trend = record.efficiency[0].trend
    basis = basis_of(Trend(**trend.model_dump()), *GAP_YEARS, savings)
    note = f"By the trend {f.plain(trend.name)}: {f.plain(trend.basis)}."
    if any(saving.of == "inference" for saving in savings):
        note += f" {NOT_OF_TRAINING}"
    note += "".join(f" {line}" for line in sorted({s.hold for s in basis.savings if s.hold}))
    yield make_table("gap", "The compute gap", note, SAVINGS, basis.savings, partial(gap_svg, basis, *GAP_YEARS))


def _compute(macs: float | None) -> str:
    return "not reached" if macs is None else f.macs(macs)


def _times_less(pair: TrainingEfficiency) -> str:
    if pair.ratio is None:
        return "not reached" if pair.censored else f.UNKNOWN
    return _bounded(pair, f.times(pair.ratio))


def _bounded(pair: TrainingEfficiency, figure: str) -> str:
    """A baseline that never reaches the accuracy would take more than all that it took."""
    return f"at least {figure}" if pair.censored and pair.ratio is not None else figure
