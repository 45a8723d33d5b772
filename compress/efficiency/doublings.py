"""Savings as doublings, and doublings as months of a trend."""

from __future__ import annotations

import math
from typing import Protocol


class Years(Protocol):
    """Years that the data of a trend cover; None where a bound is unknown."""

    @property
    def since(self) -> int | None: ...

    @property
    def until(self) -> int | None: ...

    @property
    def hardware_until(self) -> int | None: ...


def data_end(trend: Years, hardware: bool = False) -> float | None:
    """Return the date at which the data of a trend end: those of 2023 reach to 2024.0. None where they go on.

    Args:
        trend: Years of its data.
        hardware: Whether the growth of hardware counts too, as in a gap and in months of gap.
    """
    last = (trend.until, trend.hardware_until if hardware else None)
    return min((year + 1.0 for year in last if year is not None), default=None)


def outside_data(trend: Years, date: float, hardware: bool = False) -> str | None:
    """State why a trend does not hold at a date, for months as for gaps; None where it does.

    Args:
        trend: Years of its data.
        date: Year with a fraction, 2024.0 for the start of 2024.
        hardware: Whether the growth of hardware counts too, as in a gap and in months of gap.
    """
    end = data_end(trend, hardware)
    if end is not None and date > end:
        return f"its data end in {end - 1:g}"
    return f"its data start in {trend.since}" if trend.since is not None and date < trend.since else None


def doublings(ratio: float | None) -> float | None:
    """Convert a ratio of costs to doublings of efficiency (Hernandez and Brown 2020, arXiv 2005.04305).

    Args:
        ratio: Cost of the reference / cost of the variant, in one unit; None where one of them is unknown.

    Returns:
        log2(ratio), negative where the variant costs more; None where the ratio is unknown.

    Raises:
        ValueError: When the ratio is not positive or not finite.
    """
    if ratio is None:
        return None
    if not (math.isfinite(ratio) and ratio > 0):
        raise ValueError(f"a ratio of costs must be positive, not {ratio}")
    return math.log2(ratio)


def ratio(reference: float | None, variant: float | None) -> float | None:
    """Divide the reference's cost by the variant's; None where one is unknown or 0, which stands for not counted."""
    return reference / variant if reference and variant else None


def months_of_growth(d: float | None, growth: float) -> float | None:
    """Convert doublings to the months in which training compute grows as much: 12 d / log2(G).

    Args:
        d: Doublings; None where they are unknown.
        growth: G, growth of training compute, factor per year, greater than 1.

    Raises:
        ValueError: When the growth is not greater than 1.
    """
    if growth <= 1:
        raise ValueError(f"growth must be greater than 1, not {growth}")
    return None if d is None else 12 * d / math.log2(growth)


def months_of_gap(d: float | None, growth: float, hardware: float) -> float | None:
    """Convert doublings of *training* efficiency to the months by which they delay the gap: 12 d / (log2 G - log2 H).

    The result is a step, not a rate: it delays the gap once. Inference savings do not pay for training compute, so this
    is for the training ledger only.

    Args:
        d: Doublings of training efficiency; None where they are unknown.
        growth: G, growth of training compute, factor per year.
        hardware: H, growth of hardware, factor per year, smaller than G.

    Raises:
        ValueError: When the gap does not grow.
    """
    if not 0 < hardware < growth:
        raise ValueError(f"hardware growth must be positive and smaller than {growth}, not {hardware}")
    return None if d is None else 12 * d / (math.log2(growth) - math.log2(hardware))
