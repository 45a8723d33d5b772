"""Doublings in months of a trend, at a date that the trend's data cover: the rows of "The compute gap"."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from statistics import NormalDist
from typing import Literal, NamedTuple, Protocol

from compress.efficiency.doublings import Years, months_of_gap, months_of_growth, outside_data
from compress.efficiency.trends import Ends, gap_interval
from compress.results.base import OpenInterval
from compress.results.headline import Bound, Months, SavingInMonths
from compress.results.savings import Savings, TrainingEfficiency


class Growths(Years, Protocol):
    """Yearly growth of training compute and of hardware, with the years and intervals of their data."""

    @property
    def growth(self) -> float: ...
    @property
    def growth_ci90(self) -> Ends | None: ...
    @property
    def growth_ci95(self) -> Ends | None: ...
    @property
    def hardware(self) -> float: ...
    @property
    def hardware_ci90(self) -> Ends | None: ...
    @property
    def hardware_ci95(self) -> Ends | None: ...


def in_months(
    d: float | None, trend: Growths, date: float, training: bool = False, ci95: OpenInterval | None = None
) -> Months:
    """Convert doublings to months of growth and, if they are of training compute, to months of gap.

    Args:
        d: Doublings; None where they are unknown.
        trend: Growth of training compute and of hardware.
        date: Year with a fraction at which they are counted.
        training: Whether they are of training compute: savings in inference delay no gap.
        ci95: Interval of the doublings; None where they are exact or it is unknown.

    Returns:
        Months, None beyond the data of the trend; with intervals from those of the growths and of the doublings. Those
        of doublings whose interval is open or includes 0 hold nothing.
    """
    none, no_gap = outside_data(trend, date), outside_data(trend, date, hardware=True)
    delays = training and not no_gap and trend.hardware < trend.growth
    months = None if none else months_of_growth(d, trend.growth)
    held = months_of_gap(d, trend.growth, trend.hardware) if delays else None
    yearly = gap_ends(trend, 1)
    is_saving = held is not None and held > 0 and is_above_zero(ci95)
    return Months(
        months_of_growth=months,
        growth_interval=_joined(
            d, months, _ends(d, trend.growth_ci90 or trend.growth_ci95), ci95, 0.9 if trend.growth_ci90 else 0.95
        ),
        months_of_gap=held,
        gap_interval=_joined(d, held, _ends(d, yearly[1]) if yearly else None, ci95, yearly[0] if yearly else 0.95),
        hold=f"To hold the gap, you would need this again every {held:.1f} months." if is_saving else None,
        reason=none or (no_gap if training else None),
    )


def is_above_zero(ci95: OpenInterval | None) -> bool:
    """Whether the interval of doublings leaves only a saving, or there is none to say otherwise."""
    return ci95 is None or (ci95[0] is not None and ci95[0] > 0)


def gap_ends(trend: Growths, years: float) -> tuple[float, Ends] | None:
    """Return the level and the interval of the gap after some years.

    None unless both growths have an interval of the same level.
    """
    levels = ((0.9, trend.growth_ci90, trend.hardware_ci90), (0.95, trend.growth_ci95, trend.hardware_ci95))
    for level, growth, hardware in levels:
        if growth and hardware:
            return level, gap_interval(trend.growth, growth, trend.hardware, hardware, years)
    return None


def _ends(d: float | None, rate: Ends | None) -> Ends | None:
    """Interval of months, by that of a rate a year; None where the rate may be no growth at all."""
    if d is None or rate is None or rate[0] <= 1:
        return None
    low, high = sorted(months_of_growth(d, end) or 0.0 for end in rate)
    return low, high


def _joined(
    d: float | None, months: float | None, by_trend: Ends | None, ci95: OpenInterval | None, level: float
) -> Ends | None:
    """Join the intervals of months by the trend, of a `level`, and by the doublings, which are independent.

    Distances from the estimate add in quadrature, those of the trend as at 95%: on the log scale as in `gap_interval`,
    or in months where one of the two includes 0. None where the trend has no interval, or an end of the doublings is
    open.
    """
    if not d or months is None or by_trend is None or ci95 is None:
        return None if months is None else by_trend
    low, high = ci95
    if low is None or high is None:
        return None
    wider = NormalDist().inv_cdf(0.975) / NormalDist().inv_cdf(0.5 + level / 2)
    parts = [((low * months / d, high * months / d), 1.0), (by_trend, wider)]
    is_log = all(end * months > 0 for part, _ in parts for end in part)
    offsets = [
        sorted(times * (math.log(end / months) if is_log else end - months) for end in part) for part, times in parts
    ]
    ends = -math.hypot(*(min(0.0, first) for first, _ in offsets)), math.hypot(*(max(0.0, last) for _, last in offsets))
    first, last = sorted(months * math.exp(end) if is_log else months + end for end in ends)
    return first, last


def savings_in_months(
    efficiency: Iterable[Savings], training: Iterable[TrainingEfficiency], trend: Growths, date: float
) -> tuple[SavingInMonths, ...]:
    """List the doublings at equal accuracy, gains and losses alike: of inference where granted, and of training.

    Training compute counts at the variant's own accuracy. Where the baseline never reaches it, the doublings are a
    bound; a bound on a loss says nothing about months, and has none.

    Args:
        efficiency: Savings by reference.
        training: Compute to reach an accuracy.
        trend: Growth of training compute and of hardware.
        date: Year with a fraction at which they are counted.
    """
    return tuple(_row(row, trend, date) for row in (*_inference(efficiency), *_training(training)))


def known_doublings(pair: TrainingEfficiency) -> tuple[float | None, Bound | None]:
    """Return the doublings of training compute in full, or the bound that the measured points leave, if they leave one.

    A bracket on one side of 0 is a bound too: a certain loss or gain of unknown size. Nothing is known where earlier
    training is not.
    """
    full = pair.with_teacher_pretraining
    if full.doublings is not None or full.bracket is None:
        return full.doublings, None if full.doublings is None else pair.bound
    low, high = full.bracket
    if low is not None and low > 0:
        return low, "at least"
    return (high, "at most") if high is not None and high < 0 else (None, None)


def shown(doublings: float | None, bound: Bound | None) -> float | None:
    """Return the doublings that months can be given for: not a loss that is only a bound, which may be a gain."""
    if doublings is None or (bound == "at least" and doublings <= 0) or (bound == "at most" and doublings >= 0):
        return None
    return doublings


def closed(ci95: OpenInterval | None, d: float | None, bound: Bound | None) -> OpenInterval | None:
    """End the interval of doublings that are only a bound at the bound, where nothing is known beyond it."""
    low, high = ci95 or (None, None)
    if ci95 is None or d is None:
        return None
    return d if low is None and bound == "at most" else low, d if high is None and bound == "at least" else high


class Row(NamedTuple):
    """Doublings that are counted, with what they are of."""

    of: Literal["inference", "training"]
    variant: str
    against: str
    doublings: float | None
    bound: Bound | None = None
    ci95: OpenInterval | None = None


def _inference(efficiency: Iterable[Savings]) -> Iterator[Row]:
    for entry in efficiency:
        for variant in entry.variants:
            if variant.granted and variant.doublings.macs is not None:
                yield Row("inference", variant.id, entry.reference, variant.doublings.macs)


def _training(pairs: Iterable[TrainingEfficiency]) -> Iterator[Row]:
    for pair in pairs:
        if pair.primary:
            yield Row(
                "training",
                pair.variant,
                pair.baseline,
                *known_doublings(pair),
                pair.with_teacher_pretraining.doublings_ci95,
            )


def _row(row: Row, trend: Growths, date: float) -> SavingInMonths:
    ci95 = closed(row.ci95, row.doublings, row.bound)
    months = in_months(shown(row.doublings, row.bound), trend, date, row.of == "training", ci95)
    return SavingInMonths(
        **dict(months),
        of=row.of,
        variant=row.variant,
        against=row.against,
        doublings=row.doublings,
        doublings_ci95=row.ci95,
        bound=row.bound,
    )
