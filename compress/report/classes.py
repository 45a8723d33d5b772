"""Confusion changes: which classes a variant has lost or gained against a reference, and which answers moved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from compress.report import formats as f
from compress.report.formats import field
from compress.report.svg import BAD, GOOD, INK, LINE, MUTED, chart_svg, legend, plain_axes
from compress.report.tables import Column, Record, Table, at, first_reference, make

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_BARS = 20

CLASSES = (
    Column("class", at(f.text, "class"), False),
    Column("images", at(f.text, "images")),
    Column("right before", at(f.text, "reference_correct")),
    Column("right now", at(f.text, "variant_correct")),
    Column("lost", at(f.text, "only_reference")),
    Column("gained", at(f.text, "only_variant")),
    Column("change (95% interval)", lambda r: f.points(r.get("difference"), r.get("difference_ci95"))),
    Column("shown", lambda r: verdict(r.get("difference_ci95")), False),
)

MOVES = (
    Column("true class", at(f.text, "class"), False),
    Column("reference said", at(f.text, "reference_said"), False),
    Column("variant says", at(f.text, "variant_said"), False),
    Column("images", at(f.text, "images")),
)


def verdict(ends: Any) -> str:
    """Whether an interval of a loss excludes 0, in words."""
    if not ends:
        return f.UNKNOWN
    low, high = ends
    return "less accurate" if low > 0 else "more accurate" if high < 0 else "no claim"


def chosen_changes(results: Mapping[str, Any], reference: str | None, variant: str | None) -> list[Record]:
    """The entries of `class_changes` that a page shows: those of one variant, its own reference first.

    Args:
        results: A `results.json`.
        reference: What the answer is against; without one, the first reference.
        variant: The variant of the answer; without one, the last variant that there are changes of.
    """
    entries = results.get("class_changes") or []
    names = [entry.get("variant") for entry in entries]
    name = variant if variant in names else (names[-1] if names else None)
    first = reference or first_reference(results)
    return sorted((e for e in entries if e.get("variant") == name), key=lambda e: e.get("reference") != first)


def classes_table(entry: Mapping[str, Any]) -> Table:
    """Every class on which something changed."""
    reference, variant = f.plain(entry.get("reference")), f.plain(entry.get("variant"))
    rows: Iterable[Record] = entry.get("classes") or []
    note = (
        "Points within each class. With many classes one in twenty intervals misses by chance, so a single class that "
        "stands out is a hint where to look, not a finding. Classes on which no image changed are left out."
    )
    if more := entry.get("classes_left_out"):
        note += f" So are {f.text(more)} that changed less."
    return make(f"classes-{variant}-{reference}", f"{variant} against {reference}, by class", note, CLASSES, rows)


def moves_table(entry: Mapping[str, Any]) -> Table:
    """The most frequent ways in which the answer changed, right or wrong."""
    reference, variant = f.plain(entry.get("reference")), f.plain(entry.get("variant"))
    note = "The most frequent changes of an answer; to or from the true class, or between two wrong ones."
    if more := entry.get("moves_left_out"):
        note += f" {f.text(more)} rarer ones are left out."
    title = f"Answers that moved, {reference} to {variant}"
    return make(f"moves-{variant}-{reference}", title, note, MOVES, entry.get("moves") or [])


def classes_svg(entry: Mapping[str, Any]) -> str | None:
    """Images lost to the left and gained to the right, of the classes that changed most."""
    rows = [row for row in entry.get("classes") or [] if field(row, "only_reference") is not None][:MAX_BARS]
    if not rows:
        return None
    reference, variant = f.plain(entry.get("reference")), f.plain(entry.get("variant"))

    def draw(figure: Figure) -> None:
        axes, places = figure.add_subplot(), range(len(rows))
        axes.barh(places, [-row["only_reference"] for row in rows], color=BAD, height=0.6, label="lost")
        axes.barh(places, [row["only_variant"] for row in rows], color=GOOD, height=0.6, label="gained")
        nets = [row["only_variant"] - row["only_reference"] for row in rows]
        axes.plot(nets, places, "D", color=INK, markersize=5, label="net", zorder=3)
        axes.axvline(0, color=LINE, linewidth=1.2, zorder=1)
        axes.set_yticks(places, [f.short(row.get("class")) for row in rows])
        axes.invert_yaxis()
        axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
        axes.set_xlabel("test images", color=MUTED)
        plain_axes(axes)
        legend(figure, 3)

    label = f"Test images of each class that {variant} lost and gained against {reference}"
    return chart_svg(label, draw, 1.3 + 0.26 * len(rows))
