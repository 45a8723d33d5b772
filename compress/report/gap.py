"""Tables of `gap` for the terminal: trends, fits of published points, and a run's savings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compress.report import formats as f
from compress.utils.resources import DEFAULT_TREND

if TYPE_CHECKING:
    from rich.table import Table

GapRow = Mapping[str, Any]
"""A trend, a fit or a saving of the record that `compress.gap` makes, or that record itself."""

MAX_WITH_SAVINGS = 3
Columns = Sequence[tuple[str, Callable[[GapRow], str]]]


def gap_tables(record: GapRow) -> list[Table]:
    """Lay out the trends, the growths fitted to published points, and what a run's savings offset.

    Savings are shown by every requested trend; by the default trend where all are shown.

    Args:
        record: The result of `gap_record`.
    """
    by_name = {basis["name"]: basis for basis in record["bases"]}
    shown = (
        [by_name[DEFAULT_TREND]] if len(by_name) > MAX_WITH_SAVINGS and DEFAULT_TREND in by_name else record["bases"]
    )
    saved = [{**saving, "trend": basis["name"]} for basis in shown for saving in basis["savings"]]
    tables = (
        _table(_trends(record["start"], record["end"]), record["bases"], 1),
        _table(FITS, record["fits"], 2),
        _table(SAVINGS, saved, 4),
    )
    return [table for table in tables if table.row_count]


def gap_remarks(record: GapRow) -> list[str]:
    """State what restricts the tables."""
    measured = record["ai_and_efficiency"]
    efficiency = (
        f"Algorithms: {measured['about']} fell {measured['reduction']} times "
        f"({measured['reduction_with_alexnet_stopped_at_epoch_62']} times with AlexNet stopped at epoch 62). One "
        f"doubling every {measured['months_per_doubling_stated']} months as stated, "
        f"{measured['months_per_doubling_of_end_points']:.1f} from its end points. {measured['source']}."
    )
    return [*record["remarks"], efficiency]


def _trends(start: float, end: float) -> Columns:
    return (
        ("trend", lambda basis: f.plain(basis["name"])),
        ("compute × a year", lambda basis: f"{basis['growth']:.3g}"),
        ("hardware × a year", lambda basis: f"{basis['hardware']:.3f}"),
        (f"gap {start:g}–{end:g}", _gap),
        ("years to catch up", lambda basis: f"{basis['years_to_catch_up']:.1f}" if basis["years_to_catch_up"] else ""),
        ("to hold it, × a year", lambda basis: f"{basis['holding_rate']:.2f}"),
        ("one doubling, months of growth", lambda basis: f"{basis['one_doubling']['months_of_growth']:.1f}"),
        ("of gap", lambda basis: f"{basis['one_doubling']['months_of_gap']:.1f}"),
    )


FITS: Columns = (
    ("fitted", lambda fit: f.plain(fit["quantity"])),
    ("table", lambda fit: f.plain(fit["table"])),
    ("× a year (95% interval)", lambda fit: _growth(fit) if fit["growth"] else "none"),
    ("doubles in", lambda fit: _span(fit.get("doubling_years"))),
    ("years", lambda fit: f"{int(fit['first'])}–{int(fit['last'])}" if fit["growth"] else ""),
    ("rows", lambda fit: f.plain(fit["about"])),
)

SAVINGS: Columns = (
    ("trend", lambda saving: f.plain(saving["trend"])),
    ("saving in", lambda saving: saving["of"]),
    ("variant", lambda saving: f.plain(saving["variant"])),
    ("against", lambda saving: f.plain(saving["against"])),
    ("doublings", lambda saving: f.signed(saving["doublings"])),
    ("months of growth", lambda saving: f.months(saving["months_of_growth"])),
    ("months of gap", lambda saving: _gap_months(saving)),
)


def _gap_months(saving: GapRow) -> str:
    return f.months(saving["months_of_gap"]) if saving["months_of_gap"] is not None else "none: inference"


def _gap(basis: GapRow) -> str:
    if basis["gap"] is None:
        return f"found to {basis['until']} only"
    ends = basis["gap_interval"]
    between = f" ({100 * ends['level']:.0f}%: {rounded(ends['low'], 2)} to {rounded(ends['high'], 2)})" if ends else ""
    return f"{rounded(basis['gap'], 4)}{between}"


def _growth(fit: GapRow) -> str:
    return f"{fit['growth']:.3g} ({fit['ci95'][0]:.3g} to {fit['ci95'][1]:.3g})"


def _span(years: float | None) -> str:
    if years is None:
        return ""
    return f"{years:.1f} years" if abs(years) >= 1 else f"{12 * years:.1f} months"


def rounded(times: float, digits: int) -> str:
    """Round a large ratio to significant digits: 606,500×."""
    return f"{float(f'{times:.{digits}g}'):,.0f}×" if times >= 10 else f.times(times)


def _table(columns: Columns, rows: Iterable[GapRow], names: int) -> Table:
    """Lay out rows: the first columns are names and left-aligned, the others figures and right-aligned."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for number, (heading, _) in enumerate(columns):
        table.add_column(heading, justify="left" if number < names or heading == "rows" else "right")
    for row in rows:
        table.add_row(*(write(row) for _, write in columns))
    return table
