"""The compute gap: trends, fits of published points, and what the savings of a run offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from compress.efficiency.doublings import data_end, months_of_gap, months_of_growth, outside_data
from compress.efficiency.trends import Ends, gap, holding_rate, years_to_catch_up
from compress.gap.algorithms import AlgorithmicProgress, algorithmic_progress
from compress.gap.growth_fit import (
    AlgorithmicEfficiency,
    Step,
    TableFit,
    ai_and_efficiency,
    fitted_trends,
    read_tables,
)
from compress.gap.points import Points, this_year
from compress.gap.range import ESSAY, GapRange, range_of
from compress.gap.trend import GapInterval, Trend, load_trend
from compress.utils.checksums import RUN_AGAIN, require_unchanged
from compress.utils.errors import UsageError
from compress.utils.messages import unknown
from compress.utils.resources import DEFAULT_TREND, config_names

if TYPE_CHECKING:
    from compress.results.run import RunRecord

LEVELS = (
    "A saving is a one-off step, not a rate: it delays the gap once, then the slope goes on. One doubling is worth the "
    "months in the last columns, once; to hold the gap, the rate in the column 'to hold it' is needed every year."
)
TWICE = (
    f"{ESSAY} counts efficiency twice: operations per joule already grow with operations per second, and it multiplies "
    "both. It is there to reproduce a published figure, and no range includes it."
)
NOT_OF_TRAINING = (
    "A saving in inference has no months of gap: it does not pay for training compute. It is worth its months of "
    "growth."
)


ABSENT = frozenset(
    {
        *("growth_ci90", "growth_ci95", "hardware_ci90", "hardware_ci95", "since", "until", "hardware_until"),
        *("doubling_years", "doubling_ci95", "points", "first", "last", "ci95", "method", "rows"),
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


@dataclass(frozen=True, kw_only=True)
class Months:
    """Doublings as months of growth; and of gap, where they are of training compute and the gap grows.

    Attributes:
        months_of_growth: None beyond the data of the trend's growth.
        growth_interval: Its interval, by that of the growth.
        months_of_gap: None beyond the data of either growth too.
        gap_interval: Its interval, by those of both growths.
        hold: How often the same saving would be needed to hold the gap.
        reason: Why months are None that the trend could give in other years.
    """

    months_of_growth: float | None
    growth_interval: Ends | None = None
    months_of_gap: float | None
    gap_interval: Ends | None = None
    hold: str | None
    reason: str | None = None


@dataclass(frozen=True)
class SavingInMonths(Months, RunSaving):
    """A saving of a run, and its months."""


@dataclass(frozen=True, kw_only=True)
class Basis(Trend):
    """A trend with its gap between two years, and what savings offset by it.

    Attributes:
        start: First year, at which compute and hardware are level.
        end: Last year: the requested one, or the end of the trend's data.
        gap: Factor by which compute outgrew hardware; None where the trend has no data for these years.
        reason: Why there is no gap.
        gap_interval: Interval of the gap.
        years_to_catch_up: Years that hardware needs to close the gap if compute stood still.
        holding_rate: Efficiency gain that holds the gap, factor per year.
        one_doubling: Months of one doubling of training efficiency.
        savings: Savings of a run, each with its months.
    """

    start: float
    end: float
    gap: float | None
    reason: str | None
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
    range: GapRange | None
    fits: tuple[TableFit, ...]
    steps: tuple[Step, ...]
    algorithms: tuple[AlgorithmicProgress, ...]
    ai_and_efficiency: AlgorithmicEfficiency
    remarks: tuple[str, ...]
    run: str | None
    points: tuple[Points, ...]


def to_dict(record: GapRecord) -> dict[str, Any]:
    """Convert a record for JSON, without the points, which are for the chart."""
    plain: dict[str, Any] = asdict(
        replace(record, points=()),
        dict_factory=lambda items: {key: value for key, value in items if value is not None or key not in ABSENT},
    )
    del plain["points"]
    return plain


def gap_record(
    names: Sequence[str],
    start: float,
    end: float | None = None,
    run: Path | None = None,
    models: Path | None = None,
    hardware: Path | None = None,
    since: float = 2010,
) -> GapRecord:
    """Compute everything that `compress-model gap` shows.

    Args:
        names: Trends of `configs/trends`; all of them where none is named.
        start: First year, at which compute and hardware are level.
        end: Last year; None for the current date, or the end of a trend's data where they end before.
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
    last = this_year() if end is None else end
    if not start < last:
        raise UsageError(f"--end {last:.6g} must be later than --start {start:g}")
    tables = read_tables(models, hardware, since)
    trends = [load_trend(name) for name in names or known]
    if models or hardware:
        trends += fitted_trends(tables.fits, None if models else load_trend(DEFAULT_TREND))
    savings = _read_savings(run) if run else []
    remarks = [LEVELS, *([TWICE] if any(trend.name == ESSAY for trend in trends) else [])]
    remarks += [NOT_OF_TRAINING] if any(saving.of == "inference" for saving in savings) else []
    bases = tuple(basis_of(trend, start, last, savings, clip=end is None) for trend in trends)
    return GapRecord(
        start=start,
        end=last,
        bases=bases,
        range=range_of(bases),
        fits=tables.fits,
        steps=tables.steps,
        algorithms=algorithmic_progress(),
        ai_and_efficiency=ai_and_efficiency(),
        remarks=tuple(remarks),
        run=str(run) if run else None,
        points=tables.points,
    )


def basis_of(trend: Trend, start: float, end: float, savings: Sequence[RunSaving] = (), clip: bool = False) -> Basis:
    """Compute the gap of a trend between two years, and the months of savings by it.

    Args:
        trend: Growth of training compute and of hardware.
        start: First year, at which compute and hardware are level.
        end: Last year; savings are converted to months at this date.
        savings: Savings of a run.
        clip: Whether the gap and the months of one doubling are those at the end of the trend's data, where that is
            before `end`; otherwise there are none then.
    """
    growth, hardware, data = trend.growth, trend.hardware, data_end(trend, hardware=True)
    last = min(end, data) if clip and data is not None and data > start else end
    # A trend is not extrapolated beyond the years of its data.
    reason = outside_data(trend, start, hardware=True) or outside_data(trend, last, hardware=True)
    return Basis(
        **vars(trend),
        start=start,
        end=last,
        gap=None if reason else gap(growth, hardware, start, last),
        reason=reason,
        gap_interval=None if reason else trend.interval(last - start),
        years_to_catch_up=None if reason or hardware <= 1 else years_to_catch_up(growth, hardware, start, last),
        holding_rate=holding_rate(growth, hardware),
        one_doubling=_months(1, trend, last, training=True),
        savings=tuple(
            SavingInMonths(**vars(saving), **vars(_months(saving.doublings, trend, end, saving.of == "training")))
            for saving in savings
        ),
    )


def _months(saved: float, trend: Trend, date: float, training: bool) -> Months:
    """Convert doublings to months at a date; None, with the reason, beyond the data of the trend."""
    none, no_gap = outside_data(trend, date), outside_data(trend, date, hardware=True)
    held = (
        months_of_gap(saved, trend.growth, trend.hardware)
        if training and not no_gap and trend.hardware < trend.growth
        else None
    )
    yearly = trend.interval(1)
    return Months(
        months_of_growth=None if none else months_of_growth(saved, trend.growth),
        growth_interval=None if none else _ends(saved, trend.growth_ci90 or trend.growth_ci95),
        months_of_gap=held,
        gap_interval=_ends(saved, (yearly.low, yearly.high)) if yearly and held is not None else None,
        hold=f"To hold the gap, you would need this again every {held:.1f} months." if held and held > 0 else None,
        reason=none or (no_gap if training else None),
    )


def _ends(saved: float, rate: Ends | None) -> Ends | None:
    """Interval of months, by that of a rate a year; None where the rate may be no growth at all."""
    if rate is None or rate[0] <= 1:
        return None
    low, high = sorted(months_of_growth(saved, end) or 0.0 for end in rate)
    return low, high


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
