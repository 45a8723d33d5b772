"""Cells of savings in months, the same in the report and in `gap --run`."""

from __future__ import annotations

from compress.report import formats as f
from compress.results import SavingInMonths


def doublings(saving: SavingInMonths) -> str:
    """−0.33, or `at least −2.00` where it is a bound."""
    if saving.doublings is None:
        return "not known"
    figure = f.signed(saving.doublings)
    return f"{saving.bound} {figure}" if saving.bound else figure


def of_growth(saving: SavingInMonths) -> str:
    """Months of growth; why there are none."""
    return _months(saving, saving.months_of_growth)


def of_gap(saving: SavingInMonths) -> str:
    """Months of gap: of training compute only."""
    return "none: inference" if saving.of == "inference" else _months(saving, saving.months_of_gap)


def _months(saving: SavingInMonths, months: float | None) -> str:
    if months is None:
        return f"none: {saving.reason}" if saving.reason else "not known"
    return f"{saving.bound} {f.months(months)}" if saving.bound else f.months(months)
