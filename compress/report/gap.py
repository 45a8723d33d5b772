"""Tables of `gap` for the terminal: trends, fits of published points, and a run's savings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from compress.report import formats as f
from compress.utils.resources import DEFAULT_TREND

if TYPE_CHECKING:
    from rich.table import Table

    from compress.gap.growth_fit import TableFit
    from compress.gap.record import Basis, GapRecord, SavingInMonths

R = TypeVar("R")
MAX_WITH_SAVINGS = 3
Columns = Sequence[tuple[str, Callable[[R], str]]]


def gap_tables(record: GapRecord) -> list[Table]:
    """Lay out the trends, the growths fitted to published points, and what a run's savings offset.

    Savings are shown by every requested trend; by the default trend where all are shown.

    Args:
        record: The result of `gap_record`.
    """
    by_name = {basis.name: basis for basis in record.bases}
    shown = [by_name[DEFAULT_TREND]] if len(by_name) > MAX_WITH_SAVINGS and DEFAULT_TREND in by_name else record.bases
    saved = [(basis.name, saving) for basis in shown for saving in basis.savings]
    tables = (
        _table(_trends(record.start, record.end), record.bases, 1),
        _table(FITS, record.fits, 2),
        _table(SAVINGS, saved, 4),
    )
    return [table for table in tables if table.row_count]


def gap_remarks(record: GapRecord) -> list[str]:
    """State what restricts the tables."""
    measured = record.ai_and_efficiency
    efficiency = (
        f"Algorithms: {measured.about} fell {measured.reduction} times "
        f"({measured.reduction_with_alexnet_stopped_at_epoch_62} times with AlexNet stopped at epoch 62). One "
        f"doubling every {measured.months_per_doubling_stated} months as stated, "
        f"{measured.months_per_doubling_of_end_points:.1f} from its end points. {measured.source}."
    )
    return [*record.remarks, efficiency]


def _trends(start: float, end: float) -> Columns[Basis]:
    return (
        ("trend", lambda basis: f.plain(basis.name)),
        ("compute × a year", lambda basis: f"{basis.growth:.3g}"),
        ("hardware × a year", lambda basis: f"{basis.hardware:.3f}"),
        (f"gap {start:g}–{end:g}", _gap),
        ("years to catch up", lambda basis: f"{basis.years_to_catch_up:.1f}" if basis.years_to_catch_up else ""),
        ("to hold it, × a year", lambda basis: f"{basis.holding_rate:.2f}"),
        ("one doubling, months of growth", lambda basis: f"{basis.one_doubling.months_of_growth:.1f}"),
        ("of gap", lambda basis: f"{basis.one_doubling.months_of_gap:.1f}"),
    )


FITS: Columns[TableFit] = (
    ("fitted", lambda fit: f.plain(fit.quantity)),
    ("table", lambda fit: f.plain(fit.table)),
    ("× a year (95% interval)", lambda fit: _growth(fit)),
    ("doubles in", lambda fit: _span(fit.doubling_years)),
    ("years", lambda fit: f"{int(fit.first)}–{int(fit.last)}" if fit.first and fit.last else ""),
    ("rows", lambda fit: f.plain(fit.about)),
)

SAVINGS: Columns[tuple[str, SavingInMonths]] = (
    ("trend", lambda row: f.plain(row[0])),
    ("saving in", lambda row: row[1].of),
    ("variant", lambda row: f.plain(row[1].variant)),
    ("against", lambda row: f.plain(row[1].against)),
    ("doublings", lambda row: f.signed(row[1].doublings)),
    ("months of growth", lambda row: f.months(row[1].months_of_growth)),
    ("months of gap", lambda row: _gap_months(row[1])),
)


def _gap_months(saving: SavingInMonths) -> str:
    return f.months(saving.months_of_gap) if saving.months_of_gap is not None else "none: inference"


def _gap(basis: Basis) -> str:
    if basis.gap is None:
        return f"found to {basis.until} only"
    ends = basis.gap_interval
    between = f" ({100 * ends.level:.0f}%: {rounded(ends.low, 2)} to {rounded(ends.high, 2)})" if ends else ""
    return f"{rounded(basis.gap, 4)}{between}"


def _growth(fit: TableFit) -> str:
    return f"{fit.growth:.3g} ({fit.ci95[0]:.3g} to {fit.ci95[1]:.3g})" if fit.growth and fit.ci95 else "none"


def _span(years: float | None) -> str:
    if years is None:
        return ""
    return f"{years:.1f} years" if abs(years) >= 1 else f"{12 * years:.1f} months"


def rounded(times: float, digits: int) -> str:
    """Round a large ratio to significant digits: 606,500×."""
    return f"{float(f'{times:.{digits}g}'):,.0f}×" if times >= 10 else f.times(times)


def _table(columns: Columns[R], rows: Iterable[R], names: int) -> Table:
    """Lay out rows: the first columns are names and left-aligned, the others figures and right-aligned."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for number, (heading, _) in enumerate(columns):
        table.add_column(heading, justify="left" if number < names or heading == "rows" else "right")
    for row in rows:
        table.add_row(*(write(row) for _, write in columns))
    return table
