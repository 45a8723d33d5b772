"""Doublings in months of a trend, at a date that the trend's data cover: the rows of "The compute gap"."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, Protocol

from compress.efficiency.doublings import Years, months_of_gap, months_of_growth, outside_data
from compress.efficiency.trends import Ends, gap_interval
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


def in_months(d: float | None, trend: Growths, date: float, training: bool = False) -> Months:
    """Convert doublings to months of growth and, if they are of training compute, to months of gap.

    Args:
        d: Doublings; None where they are unknown.
        trend: Growth of training compute and of hardware.
        date: Year with a fraction at which they are counted.
        training: Whether they are of training compute: savings in inference delay no gap.

    Returns:
        Months, None beyond the data of the trend; with intervals from those of the growths.
    """
    none, no_gap = outside_data(trend, date), outside_data(trend, date, hardware=True)
    delays = training and not no_gap and trend.hardware < trend.growth
    months = None if none else months_of_growth(d, trend.growth)
    held = months_of_gap(d, trend.growth, trend.hardware) if delays else None
    yearly = gap_ends(trend, 1)
    return Months(
        months_of_growth=months,
        growth_interval=None if months is None else _ends(d, trend.growth_ci90 or trend.growth_ci95),
        months_of_gap=held,
        gap_interval=_ends(d, yearly[1]) if yearly and held is not None else None,
        hold=f"To hold the gap, you would need this again every {held:.1f} months." if held and held > 0 else None,
        reason=none or (no_gap if training else None),
    )


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
    return tuple(_row(*row, trend, date) for row in (*_inference(efficiency), *_training(training)))


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


Row = tuple[Literal["inference", "training"], str, str, float | None, Bound | None]


def _inference(efficiency: Iterable[Savings]) -> Iterator[Row]:
    for entry in efficiency:
        for variant in entry.variants:
            if variant.granted and variant.doublings.macs is not None:
                yield "inference", variant.id, entry.reference, variant.doublings.macs, None


def _training(pairs: Iterable[TrainingEfficiency]) -> Iterator[Row]:
    for pair in pairs:
        if pair.primary:
            yield "training", pair.variant, pair.baseline, *known_doublings(pair)


def _row(
    of: Literal["inference", "training"],
    variant: str,
    against: str,
    doublings: float | None,
    bound: Bound | None,
    trend: Growths,
    date: float,
) -> SavingInMonths:
    months = in_months(shown(doublings, bound), trend, date, of == "training")
    return SavingInMonths(**dict(months), of=of, variant=variant, against=against, doublings=doublings, bound=bound)
