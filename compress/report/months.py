"""Cells of savings in months, the same in the report and in `gap --run`."""

from __future__ import annotations

from compress.report import formats as f
from compress.results import SavingInMonths


def doublings(saving: SavingInMonths) -> str:
    """−0.33 [−0.50 to −0.15], or `at least −2.00` where it is a bound."""
    if saving.doublings is None:
        return "not known"
    figure = f.signed(saving.doublings)
    between = "" if saving.doublings_ci95 in (None, (None, None)) else f" [{f.open_interval(saving.doublings_ci95)}]"
    return (f"{saving.bound} {figure}" if saving.bound else figure) + between


def of_growth(saving: SavingInMonths) -> str:
    """Months of growth; why there are none."""
    return _months(saving, saving.months_of_growth, saving.growth_interval)


def of_gap(saving: SavingInMonths) -> str:
    """Months of gap: of training compute only."""
    return "none: inference" if saving.of == "inference" else _months(saving, saving.months_of_gap, saving.gap_interval)


def interval(ends: tuple[float, float] | None) -> str:
    """The interval of months, in brackets after them; empty where there is none."""
    return f" [{f.months(ends[0])} to {f.months(ends[1])}]" if ends else ""


def _months(saving: SavingInMonths, months: float | None, ends: tuple[float, float] | None) -> str:
    if months is None:
        return f"none: {saving.reason}" if saving.reason else "not known"
    return (f"{saving.bound} {f.months(months)}" if saving.bound else f.months(months)) + interval(ends)
