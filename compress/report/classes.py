"""Confusion changes: classes that a variant lost or gained against a reference, and predictions that changed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from compress.efficiency.per_class import LEVEL
from compress.report import formats as f
from compress.report.savings import first_reference
from compress.report.svg import BAD, GOOD, INK, LINE, MUTED, chart_svg, legend, plain_axes
from compress.report.tables import Column, Table, make_table
from compress.results import ClassChange, ClassChanges, Move, RunRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_BARS = 20

CLASSES: tuple[Column[ClassChange], ...] = (
    Column("class", lambda c: f.plain(c.name), False),
    Column("images", lambda c: str(c.images)),
    Column("correct before", lambda c: str(c.reference_correct)),
    Column("correct now", lambda c: str(c.variant_correct)),
    Column("lost", lambda c: str(c.only_reference)),
    Column("gained", lambda c: str(c.only_variant)),
    Column("change (95% interval)", lambda c: f.points(c.difference, c.difference_ci95)),
    Column("verdict", lambda c: verdict(c), False),
)

MOVES: tuple[Column[Move], ...] = (
    Column("true class", lambda m: f.plain(m.label), False),
    Column("reference predicts", lambda m: f.plain(m.reference_said), False),
    Column("variant predicts", lambda m: f.plain(m.variant_said), False),
    Column("images", lambda m: str(m.images)),
)


@dataclass(frozen=True)
class ChangesSection:
    """Changes from a reference to a variant: by class, and by predicted class."""

    classes: Table
    moves: Table


def verdict(change: ClassChange) -> str:
    """State whether a class is shown to have changed, with all classes of the variant counted as tests."""
    if change.p_adjusted is None or change.p_adjusted > LEVEL:
        return "no claim"
    return "less accurate" if change.difference > 0 else "more accurate"


def changes_sections(record: RunRecord, reference: str | None, variant: str | None) -> tuple[ChangesSection, ...]:
    """Lay out the changes of the headline's variant, else of the last with changes, with its own reference first."""
    entries = record.class_changes
    names = [entry.variant for entry in entries]
    changed = variant if variant in names or not names else names[-1]
    first = reference or first_reference(record)
    chosen = sorted(
        (entry for entry in entries if entry.variant == changed), key=lambda entry: entry.reference != first
    )
    return tuple(ChangesSection(classes_table(entry), moves_table(entry)) for entry in chosen)


def classes_table(changes: ClassChanges) -> Table:
    """Lay out every class with a change."""
    reference, variant = f.plain(changes.reference), f.plain(changes.variant)
    note = (
        "Points of accuracy within each class. One in twenty intervals misses by chance; the verdict is McNemar's "
        "exact test after Holm's correction for all classes. Classes without a change are left out."
    )
    if changes.classes_left_out:
        note += f" So are {changes.classes_left_out} classes with smaller changes."
    key, title = f"classes-{variant}-{reference}", f"{variant} against {reference}, by class"
    return make_table(key, title, note, CLASSES, changes.classes, partial(classes_svg, changes))


def moves_table(changes: ClassChanges) -> Table:
    """Lay out the most frequent changes of the predicted class, correct or not."""
    reference, variant = f.plain(changes.reference), f.plain(changes.variant)
    note = "The most frequent changes of the predicted class, to or from the true class or between two wrong ones."
    if changes.moves_left_out:
        note += f" {changes.moves_left_out} less frequent ones are left out."
    title = f"Predictions that changed, {reference} to {variant}"
    return make_table(f"moves-{variant}-{reference}", title, note, MOVES, changes.moves)


def classes_svg(changes: ClassChanges) -> str | None:
    """Draw images lost to the left and gained to the right, for the classes that changed most."""
    rows = changes.classes[:MAX_BARS]
    if not rows:
        return None

    def draw(figure: Figure) -> None:
        axes, positions = figure.add_subplot(), range(len(rows))
        axes.barh(positions, [-row.only_reference for row in rows], color=BAD, height=0.6, label="lost")
        axes.barh(positions, [row.only_variant for row in rows], color=GOOD, height=0.6, label="gained")
        net = [row.only_variant - row.only_reference for row in rows]
        axes.plot(net, positions, "D", color=INK, markersize=5, label="net", zorder=3)
        axes.axvline(0, color=LINE, linewidth=1.2, zorder=1)
        axes.set_yticks(positions, [f.short(row.name) for row in rows])
        axes.invert_yaxis()
        axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
        axes.set_xlabel("test images", color=MUTED)
        plain_axes(axes)
        legend(figure, 3)

    reference, variant = f.plain(changes.reference), f.plain(changes.variant)
    label = f"Test images of each class that {variant} lost and gained against {reference}"
    return chart_svg(label, draw, 1.3 + 0.26 * len(rows))
