"""Tables of `gap` for the terminal: trends, fits of published points, steps, algorithms, and a run's savings."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from compress.report import formats as f
from compress.report import months
from compress.utils.resources import DEFAULT_TREND

if TYPE_CHECKING:
    from rich.table import Table

    from compress.efficiency.trends import Ends
    from compress.gap.algorithms import AlgorithmicProgress
    from compress.gap.growth_fit import Step, TableFit
    from compress.gap.record import Basis, GapRecord
    from compress.results import SavingInMonths

R = TypeVar("R")
MAX_WITH_SAVINGS = 3
NAME_WIDTH = 11  # of a trend, and of a reason, so that the table fits into 80 columns
MILLION = 1e6
SUFFIXES = ((1e12, "T"), (1e9, "G"), (MILLION, "M"), (1e3, "k"))
NO_INTERVAL = "–"
Columns = Sequence[tuple[str, Callable[[R], str]]]


def gap_tables(record: GapRecord) -> list[Table]:
    """Lay out the trends, the growths fitted to published points, one-off steps, algorithms, and a run's savings.

    Savings are shown by every requested trend; where all are shown, by the default trend, or if its data have ended, by
    those that have months today.

    Args:
        record: The result of `gap_record`.
    """
    shown: Sequence[Basis] = record.bases
    if len(shown) > MAX_WITH_SAVINGS:
        held = [one for one in shown if any(saving.months_of_growth is not None for saving in one.savings)]
        shown = [one for one in held if one.name == DEFAULT_TREND] or held
    saved = [(basis.name, saving) for basis in shown for saving in basis.savings]
    tables = (
        _table(TRENDS, record.bases, 1),
        _table(FITS, record.fits, 1),
        _table(STEPS, record.steps, 1),
        _table(ALGORITHMS, record.algorithms, 1),
        _table(SAVINGS, saved, 4),
    )
    return [table for table in tables if table.row_count]


def gap_summary(record: GapRecord) -> str | None:
    """State the gap as a range over bases; None where fewer than two have data for the same years."""
    found = record.range
    if found is None:
        return None
    return (
        f"{_date(found.start)}–{_date(found.end)}: training compute outgrew hardware {rounded(found.low, 2)} "
        f"({found.low_basis}) to {rounded(found.high, 2)} ({found.high_basis}), by what hardware is measured by "
        f"({found.bases} bases with data for these years). Intervals below are sampling error of the rates only and do "
        "not include that choice; – where no interval is published."
    )


def gap_remarks(record: GapRecord) -> list[str]:
    """State what restricts the tables, and where their figures come from."""
    measured = record.ai_and_efficiency
    efficiency = (
        f"Algorithms: {measured.about} fell {measured.reduction} times "
        f"({measured.reduction_with_alexnet_stopped_at_epoch_62} times with AlexNet stopped at epoch 62). One "
        f"doubling every {measured.months_per_doubling_stated} months as stated, "
        f"{measured.months_per_doubling_of_end_points:.1f} from its end points. {measured.source}."
    )
    tables = dict.fromkeys(f"Fitted: {fit.table}, {fit.source}." for fit in record.fits if fit.source)
    own = (f"Fitted: {fit.quantity}, {fit.table}: {fit.about}." for fit in record.fits if not fit.source)
    step = (
        "A step is a one-off gain: the rate of accelerators with it over their best rate without it. It is part of "
        "best-format's rate, and not of the FP32 rate."
    )
    return [*record.remarks, *([step] if record.steps else []), *tables, *own, efficiency]


def _ends(ends: Ends | None, digits: int = 3) -> str:
    return f"{ends[0]:.{digits}g}–{ends[1]:.{digits}g}" if ends else NO_INTERVAL


def _below(figure: str, ends: Ends | None, digits: int = 3) -> str:
    """A figure, and its interval in a second line."""
    return f"{figure}\n{_ends(ends, digits)}"


def _date(year: float) -> str:
    return f"{round(year, 1):g}"


def _trend(basis: Basis) -> str:
    name = "\n".join(textwrap.wrap(f.plain(basis.name), NAME_WIDTH))
    return f"{name}\n{_date(basis.start)}–{_date(basis.end)}" if basis.gap is not None else name


def _gap(basis: Basis) -> str:
    if basis.gap is None:
        return "\n".join(textwrap.wrap(f"none: {basis.reason}", NAME_WIDTH))
    ends = basis.gap_interval
    factor = rounded(basis.gap, 4) if basis.gap < MILLION else f"{compact(basis.gap, 3)}×"
    return f"{factor}\n{compact(ends.low)}–{compact(ends.high)}" if ends else factor


def _months(value: float | None, ends: Ends | None) -> str:
    return "none" if value is None else _below(f"{value:.1f}", ends, 2)


TRENDS: Columns[Basis] = (
    ("trend", _trend),
    ("compute\n× a year", lambda basis: _below(f"{basis.growth:.3g}", basis.growth_ci90 or basis.growth_ci95)),
    ("hardware\n× a year", lambda basis: _below(f"{basis.hardware:.3f}", basis.hardware_ci90 or basis.hardware_ci95)),
    ("gap", _gap),
    ("years to\ncatch up", lambda basis: f"{basis.years_to_catch_up:.1f}" if basis.years_to_catch_up else ""),
    ("to hold it\n× a year", lambda basis: f"{basis.holding_rate:.2f}"),
    ("months of\ngrowth", lambda b: _months(b.one_doubling.months_of_growth, b.one_doubling.growth_interval)),
    ("months\nof gap", lambda b: _months(b.one_doubling.months_of_gap, b.one_doubling.gap_interval)),
)

FITS: Columns[TableFit] = (
    ("fitted", lambda fit: f.plain(fit.quantity)),
    ("× a year (95%)", lambda fit: f"{fit.growth:.3g} ({_ends(fit.ci95)})" if fit.growth else "none"),
    ("doubles in (95%)", lambda fit: _doubling(fit)),
    ("years", lambda fit: f"{int(fit.first)}–{int(fit.last)}" if fit.first and fit.last else ""),
    ("points", lambda fit: str(fit.points or "")),
)

STEPS: Columns[Step] = (
    ("one-off step", lambda step: f.plain(step.name)),
    ("times (95%)", lambda step: f"{step.times:.2g} ({_ends(step.ci95, 2)})"),
    ("first in", lambda step: str(int(step.first))),
    ("chips", lambda step: str(step.chips)),
)

ALGORITHMS: Columns[AlgorithmicProgress] = (
    ("algorithmic progress", lambda one: f.plain(one.name)),
    ("× a year", lambda one: f"{one.growth:.2g} ({_ends(one.growth_interval, 2)})"),
    ("1 doubling, months", lambda one: f"{one.months_per_doubling:g} ({_ends(one.interval, 2)})"),
    ("years", lambda one: f"{one.first}–{one.last}"),
)

SAVINGS: Columns[tuple[str, SavingInMonths]] = (
    ("trend", lambda row: f.plain(row[0])),
    ("saving in", lambda row: row[1].of),
    ("variant", lambda row: f.plain(row[1].variant)),
    ("against", lambda row: f.plain(row[1].against)),
    ("doublings", lambda row: months.doublings(row[1])),
    ("months of growth", lambda row: months.of_growth(row[1])),
    ("months of gap", lambda row: months.of_gap(row[1])),
)


def _doubling(fit: TableFit) -> str:
    if fit.doubling_years is None:
        return ""
    scale, unit = (1, "years") if abs(fit.doubling_years) >= 1 else (12, "months")
    ends = fit.doubling_ci95
    interval = f" ({scale * ends[0]:.1f}–{scale * ends[1]:.1f})" if ends else ""
    return f"{scale * fit.doubling_years:.1f} {unit}{interval}"


def rounded(times: float, digits: int) -> str:
    """Round a large ratio to significant digits: 606,500×."""
    return f"{float(f'{times:.{digits}g}'):,.0f}×" if times >= 10 else f.times(times)


def compact(times: float, digits: int = 2) -> str:
    """Round a ratio to a few digits and a prefix: 160k, 2.5M."""
    size, suffix = next((one for one in SUFFIXES if times >= one[0]), (1, ""))
    return f"{float(f'{times / size:.{digits}g}'):g}{suffix}"


def _table(columns: Columns[R], rows: Iterable[R], names: int) -> Table:
    """Lay out rows: the first columns are names and left-aligned, the others figures and right-aligned."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for number, (heading, _) in enumerate(columns):
        table.add_column(heading, justify="left" if number < names else "right", overflow="fold")
    for row in rows:
        table.add_row(*(write(row) for _, write in columns))
    return table
