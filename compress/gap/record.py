"""The compute gap: trends, fits of published points, and what the savings of a run offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from compress.efficiency.doublings import months_of_gap, months_of_growth
from compress.efficiency.trends import gap, holding_rate, years_to_catch_up
from compress.gap.growth_fit import AlgorithmicEfficiency, TableFit, ai_and_efficiency, fit_tables, fitted_trends
from compress.gap.trend import GapInterval, Trend, load_trend
from compress.utils.checksums import RUN_AGAIN, require_unchanged
from compress.utils.errors import UsageError
from compress.utils.messages import unknown
from compress.utils.resources import DEFAULT_TREND, config_names

if TYPE_CHECKING:
    from compress.results.run import RunRecord

LEVELS = (
    "A saving is a one-off step, not a rate: it delays the gap once, then the slope goes on. To hold the gap, the rate "
    "in the column 'to hold it' is needed every year."
)
TWICE = (
    "essay counts efficiency twice: operations per joule already grow with operations per second, and it multiplies "
    "both."
)
NOT_OF_TRAINING = (
    "A saving in inference has no months of gap: it does not pay for training compute. It is worth its months of "
    "growth."
)


ABSENT = frozenset(
    {
        *("growth_ci90", "growth_ci95", "hardware_ci90", "hardware_ci95", "until"),
        *("doubling_years", "points", "first", "last", "ci95", "method", "rows"),
    }
)
"""Keys that are left out of the JSON where a trend or a fit does not have them; everything else unknown is null."""


@dataclass(frozen=True)
class RunSaving:
    """Doublings that a run may call saved."""

    of: Literal["inference", "training"]
    variant: str
    against: str
    doublings: float


@dataclass(frozen=True)
class Months:
    """Doublings as months of growth; and of gap, where they are of training compute and the gap grows."""

    months_of_growth: float | None
    months_of_gap: float | None
    hold: str | None


@dataclass(frozen=True)
class SavingInMonths(Months, RunSaving):
    """A saving of a run, and its months."""


@dataclass(frozen=True, kw_only=True)
class Basis(Trend):
    """A trend with its gap between two years, and what savings offset by it.

    Attributes:
        gap: Factor by which compute outgrew hardware; None where the data of the trend end before.
        gap_interval: Interval of the gap.
        years_to_catch_up: Years that hardware needs to close the gap if compute stood still.
        holding_rate: Efficiency gain that holds the gap, factor per year.
        one_doubling: Months of one doubling of training efficiency.
        savings: Savings of a run, each with its months.
    """

    gap: float | None
    gap_interval: GapInterval | None
    years_to_catch_up: float | None
    holding_rate: float
    one_doubling: Months
    savings: tuple[SavingInMonths, ...]


@dataclass(frozen=True)
class GapRecord:
    """Everything that `compress-model gap` shows."""

    start: float
    end: float
    bases: tuple[Basis, ...]
    fits: tuple[TableFit, ...]
    ai_and_efficiency: AlgorithmicEfficiency
    remarks: tuple[str, ...]
    run: str | None


def to_dict(record: GapRecord) -> dict[str, Any]:
    """Convert a record for JSON."""
    return asdict(
        record,
        dict_factory=lambda items: {key: value for key, value in items if value is not None or key not in ABSENT},
    )


def gap_record(
    names: Sequence[str],
    start: float,
    end: float,
    run: Path | None = None,
    models: Path | None = None,
    hardware: Path | None = None,
    since: float = 2010,
) -> GapRecord:
    """Compute everything that `compress-model gap` shows.

    Args:
        names: Trends of `configs/trends`; all of them where none is named.
        start: First year, at which compute and hardware are level.
        end: Last year.
        run: Folder of a run whose savings are converted to months by each trend.
        models: Table of models and their training compute, to fit instead of the shipped one.
        hardware: Table of accelerators, to fit instead of the shipped one.
        since: First year of the points that are fitted.

    Raises:
        UsageError: a trend is unknown, the years are not in order, a table cannot be used, or the run has no results.
        CompressError: the results were changed after the run.
    """
    known = config_names("trends")
    for name in names:
        if name not in known:
            raise UsageError(unknown("trend", name, known))
    if not start < end:
        raise UsageError(f"--end {end:g} must be later than --start {start:g}")
    fits = fit_tables(models, hardware, since)
    trends = [load_trend(name) for name in names or known]
    if models or hardware:
        trends += fitted_trends(fits, None if models else load_trend(DEFAULT_TREND))
    savings = _read_savings(run) if run else []
    remarks = [LEVELS, *([TWICE] if any(trend.name == "essay" for trend in trends) else [])]
    remarks += [NOT_OF_TRAINING] if any(saving.of == "inference" for saving in savings) else []
    return GapRecord(
        start=start,
        end=end,
        bases=tuple(basis_of(trend, start, end, savings) for trend in trends),
        fits=tuple(fits),
        ai_and_efficiency=ai_and_efficiency(),
        remarks=tuple(remarks),
        run=str(run) if run else None,
    )


def basis_of(trend: Trend, start: float, end: float, savings: Sequence[RunSaving]) -> Basis:
    """Compute the gap of a trend between two years, and the months of savings by it.

    Args:
        trend: Growth of training compute and of hardware.
        start: First year, at which compute and hardware are level.
        end: Last year.
        savings: Savings of a run.
    """
    growth, hardware = trend.growth, trend.hardware
    holds = end <= (trend.until or end)  # a trend is not extrapolated beyond the years of its data
    return Basis(
        **vars(trend),
        gap=gap(growth, hardware, start, end) if holds else None,
        gap_interval=trend.interval(end - start) if holds else None,
        years_to_catch_up=years_to_catch_up(growth, hardware, start, end) if holds and hardware > 1 else None,
        holding_rate=holding_rate(growth, hardware),
        one_doubling=_months(1, trend, training=True),
        savings=tuple(
            SavingInMonths(**vars(saving), **vars(_months(saving.doublings, trend, saving.of == "training")))
            for saving in savings
        ),
    )


def _months(saved: float, trend: Trend, training: bool) -> Months:
    held = months_of_gap(saved, trend.growth, trend.hardware) if training and trend.hardware < trend.growth else None
    hold = f"To hold the gap, you would need this again every {held:.1f} months." if held and held > 0 else None
    return Months(months_of_growth(saved, trend.growth), held, hold)


def _read_savings(run: Path) -> list[RunSaving]:
    """Read what a run has saved: granted doublings of inference, and doublings of training compute."""
    from compress.results.read import read_run

    require_unchanged(run / "results.json", RUN_AGAIN)
    return run_savings(read_run(run))


def run_savings(results: RunRecord) -> list[RunSaving]:
    """List the doublings that a run may call saved: of inference where granted, of training compute where reached.

    Training compute counts at the baseline's own last accuracy: beyond it the baseline's is only bounded.
    """
    inference = [
        RunSaving("inference", variant.id, entry.reference, variant.doublings.macs)
        for entry in results.efficiency
        for variant in entry.variants
        if variant.granted and variant.doublings.macs is not None and variant.doublings.macs > 0
    ]
    training = [
        RunSaving("training", entry.variant, entry.baseline, entry.doublings)
        for entry in results.training_efficiency
        if entry.doublings is not None and not entry.chosen
    ]
    return inference + training
