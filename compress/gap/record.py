"""The compute gap: trends, fits of published points, and what the savings of a run offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.efficiency.doublings import data_end, outside_data
from compress.efficiency.months import in_months, savings_in_months
from compress.efficiency.trends import gap, holding_rate, years_to_catch_up
from compress.gap.algorithms import AlgorithmicProgress, algorithmic_progress
from compress.gap.growth_fit import (
    AlgorithmicEfficiency,
    Step,
    TableFit,
    ai_and_efficiency,
    fitted_trends,
    read_tables,
)
from compress.gap.points import Points, read_year, this_year
from compress.gap.range import ESSAY, GapRange, range_of
from compress.gap.trend import GapInterval, Trend, load_trend
from compress.results.base import Record
from compress.results.headline import Months, SavingInMonths
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
    results: RunRecord | None
    points: tuple[Points, ...]


def to_dict(record: GapRecord) -> dict[str, Any]:
    """Convert a record for JSON: of the run only the headline, and without the points, which are for the chart."""
    plain: dict[str, Any] = asdict(
        replace(record, points=(), results=None),
        dict_factory=lambda items: {
            key: _plain(value) for key, value in items if value is not None or key not in ABSENT
        },
    )
    del plain["points"], plain["results"]
    return {**plain, "headline": _plain(record.results.headline) if record.results else None}


def _plain(value: Any) -> Any:
    """Convert records of `results.json`, which are not dataclasses, and tuples of them."""
    if isinstance(value, Record):
        return value.model_dump(mode="json")
    return tuple(map(_plain, value)) if isinstance(value, tuple) else value


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
        run: Folder of a run whose savings are converted to months by each trend, at the date of the run unless `end`
            is given.
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
    if not start < last and end is None:
        raise UsageError(f"--start {start:g} must be before today, {last:.1f}; or give a later --end")
    if not start < last:
        raise UsageError(f"--end {last:.6g} must be later than --start {start:g}")
    tables = read_tables(models, hardware, since)
    trends = [load_trend(name) for name in names or known]
    if models or hardware:
        trends += fitted_trends(tables.fits, None if models else load_trend(DEFAULT_TREND))
    results = _read(run) if run else None
    remarks = [LEVELS, *([TWICE] if any(trend.name == ESSAY for trend in trends) else [])]
    date = last if end or not results else read_year(results.run.started) or last
    bases = tuple(
        basis_of(trend, start, last, _savings(results, trend, date) if results else (), clip=end is None)
        for trend in trends
    )
    remarks += [NOT_OF_TRAINING] if any(saving.of == "inference" for saving in bases[0].savings) else []
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
        results=results,
        points=tables.points,
    )


def basis_of(
    trend: Trend, start: float, end: float, savings: tuple[SavingInMonths, ...] = (), clip: bool = False
) -> Basis:
    """Compute the gap of a trend between two years.

    Args:
        trend: Growth of training compute and of hardware.
        start: First year, at which compute and hardware are level.
        end: Last year.
        savings: Savings and losses of a run in months of the trend.
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
        one_doubling=in_months(1, trend, last, training=True),
        savings=savings,
    )


def _savings(results: RunRecord, trend: Trend, date: float) -> tuple[SavingInMonths, ...]:
    return savings_in_months(results.efficiency, results.training_efficiency, trend, date)


def _read(run: Path) -> RunRecord:
    from compress.results.read import read_run

    require_unchanged(run / "results.json", RUN_AGAIN)
    return read_run(run)
