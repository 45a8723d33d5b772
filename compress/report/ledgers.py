"""Tables of the ledgers, each on its own: training compute, the lifetime of a deployed model, and the compute gap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from compress.gap.record import NOT_OF_TRAINING, basis_of
from compress.gap.trend import Trend
from compress.report import energy, months
from compress.report import formats as f
from compress.report.ledger_charts import gap_svg, lifetime_svg
from compress.report.savings import break_even, lifetimes
from compress.report.tables import Column, Table, make_table
from compress.report.training import training_tables
from compress.results import (
    Lifetime,
    MillionImages,
    RunRecord,
    SavingInMonths,
    Savings,
    ShareRatio,
    VariantSavings,
)
from compress.utils.messages import significant

GAP_YEARS = (2012, 2024)
"""Years that the gap is given for, those of the essay in which it is discussed."""

Granted = tuple[VariantSavings, Lifetime]

SAVINGS: tuple[Column[SavingInMonths], ...] = (
    Column("saving in", lambda s: s.of, False),
    Column("variant", lambda s: f.plain(s.variant), False),
    Column("against", lambda s: f.plain(s.against), False),
    Column("doublings", months.doublings),
    Column("months of growth", months.of_growth),
    Column("months of gap", months.of_gap),
)


def ledgers(record: RunRecord) -> list[Table]:
    """Lay out the ledgers. Training and its efficiency are always there; the others where the run has rows for them."""
    optional = [*map(_lifetime, record.efficiency), *_million(record), *_gap(record)]
    return [*training_tables(record), *(table for table in optional if table.rows)]


def _lifetime(savings: Savings) -> Table:
    rows = lifetimes(savings)
    columns: list[Column[Granted]] = [
        Column("variant", lambda row: f.plain(row[0].id), False),
        Column("extra training MACs", lambda row: _extra(row[1])),
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
        f"Lifetime ratio: MACs of {reference} for training and so many queries, divided by the variant's. Earlier "
        "training counts too: of the teacher, as if this were its only student, and of published weights. Queries that "
        "a response cache serves cost neither of them anything."
    )
    title, chart = f"Lifetime against {reference}", partial(lifetime_svg, savings)
    return make_table(f"lifetime-{reference}", title, note, columns, rows, chart)


def _extra(life: Lifetime) -> str:
    """Training of the variant beyond the reference's, of which there may be less."""
    extra = life.variant_training - life.reference_training
    return f.macs(extra) if extra >= 0 else f"−{f.macs(-extra)}"


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
        Column(
            "price", lambda m: f.UNKNOWN if m.price is None else f"{significant(m.price)} {f.plain(profile.currency)}"
        ),
    ]
    if any(row.energy_j for row in rows):
        columns.append(Column("energy", _energy))
    if any(row.reason for row in rows):
        columns.append(Column("unknown because", lambda m: f.plain(m.reason or ""), False))
    note = f"On {f.plain(profile.name)} at full load, by its own row of latency. {f.plain(profile.source)}"
    yield make_table("million", "A million images", note.strip(), columns, rows)


def _energy(cost: MillionImages) -> str:
    """7.2 kJ, estimated."""
    return f.UNKNOWN if cost.energy_j is None else f"{f.joules(cost.energy_j)}, {energy.kind(cost.energy_method)}"


def _gap(record: RunRecord) -> Iterator[Table]:
    """The run's savings and losses against the growth of compute."""
    if not record.efficiency or not record.months:
        return
    trend = record.efficiency[0].trend
    basis = basis_of(Trend(**trend.model_dump()), *GAP_YEARS, record.months)
    note = f"By the trend {f.plain(trend.name)}: {f.plain(trend.basis)}."
    if any(saving.of == "inference" for saving in record.months):
        note += f" {NOT_OF_TRAINING}"
    note += "".join(f" {line}" for line in sorted({s.hold for s in record.months if s.hold}))
    yield make_table("gap", "The compute gap", note, SAVINGS, record.months, partial(gap_svg, basis, *GAP_YEARS))
