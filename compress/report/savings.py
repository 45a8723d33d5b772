"""Savings of variants against a reference: the table, and the labels of what is granted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from compress.efficiency.files import counts_for_reference, name_of
from compress.efficiency.headline import is_saving
from compress.report import energy
from compress.report import formats as f
from compress.report.tables import Column, Table, make_table
from compress.results import EnergyBasis, LatencyBasis, Lifetime, RunRecord, Savings, VariantSavings
from compress.utils.metric_name import MetricName
from compress.utils.precision import file_name


@dataclass(frozen=True)
class SavingsSection:
    """Savings against one reference: the table, and (id, reason) of what is granted or refused."""

    reference: str
    table: Table
    reasons: tuple[tuple[str, str], ...]


def first_reference(record: RunRecord) -> str | None:
    """The recipe's first reference, which ratios of latency are against."""
    return record.efficiency[0].reference if record.efficiency else None


def file_grant(record: RunRecord, variant: str, name: str) -> str:
    """Whether a file, of which `name_of` is the name, is granted by its own predictions, against the headline's
    reference."""
    entry = next((each for each in record.efficiency if each.reference == record.headline.reference), None)
    if entry is None:
        return f.UNKNOWN
    of = {each.id: each.files for each in entry.variants} | {entry.reference: entry.reference_files}
    file = next((each for each in of.get(variant, ()) if name_of(each) == name), None)
    if file is None or file.paired is None:
        return "speed without accuracy"
    if variant == entry.reference and not file.granted_adjusted and counts_for_reference(file):
        return "counts, not shown to be worse"
    granted = {each.id for each in entry.variants if each.granted} | {entry.reference}
    if file.granted_adjusted and variant not in granted:
        return "as accurate, variant not granted"
    return "granted" if file.granted_adjusted else "not granted"


def lifetimes(savings: Savings) -> list[tuple[VariantSavings, Lifetime]]:
    """Every variant that is granted, with its lifetime."""
    return [(v, v.lifetime) for v in savings.variants if v.lifetime and is_saving(v)]


LOST: dict[MetricName, str] = {"top1": "accuracy", "balanced": "balanced accuracy", "top5": "top-5 accuracy"}
NO_OTHER = "There is no other variant to compare."


def grant_label(variant: VariantSavings) -> str:
    """Whether a saving is granted; a variant that is as accurate but dearer saves nothing."""
    if not variant.granted:
        return "not granted"
    return "granted" if is_saving(variant) else "as accurate, not cheaper"


def break_even(variant: VariantSavings) -> str:
    """Queries after which making a variant has paid off."""
    if variant.break_even_queries is None:
        saved = variant.doublings.macs
        return "never: not cheaper" if saved is not None and saved <= 0 else f.UNKNOWN
    return f"{f.queries(variant.break_even_queries)} queries"


def _exact_bound(variant: VariantSavings) -> str:
    share = variant.exact_upper_bound
    return f.UNKNOWN if share is None else f"{100 * share:.1f} points".replace("-", "−")


def _more_errors(variant: VariantSavings) -> str:
    """+3.1%: by how much the error rate is higher."""
    share = variant.relative_error_increase
    return f.UNKNOWN if share is None else f"{100 * share:+.1f}%".replace("-", "−")


COLUMNS: tuple[Column[VariantSavings], ...] = (
    Column("variant", lambda v: f.plain(v.id), False),
    Column("granted", grant_label, False),
    Column("by its file for", lambda v: f.plain(file_name(v.file, v.file_precision)), False),
    Column("accuracy lost (95% interval)", lambda v: f.points(v.accuracy_difference, v.difference_ci95)),
    Column("exact upper bound", _exact_bound),
    Column("errors", _more_errors),
    Column("doublings, MACs", lambda v: f.signed(v.doublings.macs)),
    Column("bit operations", lambda v: f.signed(v.doublings.bit_operations)),
    Column("latency", lambda v: f.signed(v.doublings.latency)),
    Column("energy", energy.doublings),
    Column("months of growth", lambda v: "none" if v.months_of_growth is None else f.months(v.months_of_growth)),
    Column("break-even", break_even),
)


def savings_section(savings: Savings, chart: Callable[[], str | None]) -> SavingsSection:
    """Lay out what every variant saves against one reference.

    Args:
        savings: An entry of `efficiency`.
        chart: Draw its chart.
    """
    reference, trend, allowed = f.plain(savings.reference), savings.trend, 100 * savings.tolerance
    exact = "" if savings.metric == "balanced" else f"; exact upper bound of the loss: {f.plain(savings.exact_method)}"
    note = (
        f"Granted where a variant is shown to lose at most {allowed:g} {'point' if allowed == 1 else 'points'} of "
        f"{reference}'s {LOST[savings.metric]} on the same images ({f.plain(savings.interval_method)}{exact}"
        "). A doubling is log2 of the reference's cost over the variant's; the "
        "columns are alternatives and do not multiply. Doublings of a variant that is not granted are at another "
        "accuracy, so they are not a saving. Months of growth are the time in which training compute grows by the "
        f"doublings of MACs, at a factor of {trend.growth:g} per year ({f.plain(trend.name)}). Fewer bits earn no "
        "months: that growth counts operations of any precision, and INT8 does not make them fewer. Latency and energy "
        f"compare the best granted file with the best file of {reference} that is not shown to be worse. Break-even: "
        "images, cached ones included, after which the saved MACs have repaid the extra training."
    )
    note += _settings("latency", ((v.id, v.latency_basis) for v in savings.variants))
    note += _settings("energy", ((v.id, v.energy_basis) for v in savings.variants))
    title = f"Worth against {reference}"
    table = make_table(f"worth-{reference}", title, note, COLUMNS, savings.variants, chart, NO_OTHER)
    return SavingsSection(
        savings.reference, table, tuple((f.plain(v.id), f.plain(v.reason)) for v in savings.variants if v.reason)
    )


def _settings(cost: str, bases: Iterable[tuple[str, LatencyBasis | EnergyBasis | None]]) -> str:
    """Runtime and batch that the doublings of a cost are from, with the variants; empty where there are none."""
    variants: dict[str, list[str]] = {}
    for id, basis in bases:
        if basis:
            variants.setdefault(_setting(basis), []).append(f.plain(id))
    joined = "; ".join(f"{setting} ({', '.join(ids)})" for setting, ids in variants.items())
    return f" Doublings of {cost} are from {joined}." if variants else ""


def _setting(basis: LatencyBasis | EnergyBasis) -> str:
    runtime = f.plain(basis.runtime)
    precisions = f.plain(f"{basis.precision} against {basis.reference_precision} in {basis.reference_runtime}")
    method = f", {f.plain(basis.method)}" if isinstance(basis, EnergyBasis) else ""
    return f"{runtime} at batch {basis.batch}, {precisions}{method}"
