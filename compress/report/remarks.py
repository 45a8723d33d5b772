"""Remarks below the first sentence of a report: collapsed accuracy, other references, and what restricts the result."""

from __future__ import annotations

from collections.abc import Iterator

from compress.efficiency.headline import is_saving
from compress.report import formats as f
from compress.report.lineage import remedy
from compress.report.tables import variants_by_id
from compress.results import RunRecord, Savings, Variant

COLLAPSE = 0.10
"""Loss of accuracy, a fraction, that is worth a warning in the first lines."""


def warnings(record: RunRecord) -> list[str]:
    """Warn of every variant that lost 10 points or more against what it was made from, and of every such file."""
    by_id, lines = variants_by_id(record), []
    for variant in record.variants:
        parent, top1, name = by_id.get(variant.parent or ""), variant.accuracy.top1, f.plain(variant.id)
        if parent and (lost := parent.accuracy.top1 - top1) >= COLLAPSE:
            against = f"{name} lost {100 * lost:.1f} points against {f.plain(parent.id)}"
            lines.append(f"{against}. Try {remedy(variant.kind)}.")
        for file in variant.artifacts:
            if file.top1 is not None and (lost := top1 - file.top1) >= COLLAPSE:
                against = f"{name} lost {100 * lost:.1f} points in {f.plain(file.runtime)} against PyTorch"
                lines.append(f"{against}: do not deploy that file. Try another runtime or quantizer.")
    return lines


def reservations(record: RunRecord) -> list[str]:
    """State what holds whatever the savings are."""
    lines = [*_other_references(record), *_reason(record), *_selection(record)]
    lines.append(
        "Every variant was trained once, with one seed: the intervals cover the choice of test images, not retraining."
    )
    lines += map(f.plain, record.data.remarks or ())
    if record.data.name:
        lines.append(f"The results hold for {f.plain(record.data.name)}, on the machine below.")
    return lines


def _reason(record: RunRecord) -> Iterator[str]:
    """Why the variant that saves the most is not granted."""
    first = record.headline
    if not first.granted and first.variant and first.reason:
        yield f"{f.plain(first.variant)}: {f.plain(first.reason)}."


def _other_references(record: RunRecord) -> Iterator[str]:
    """State the saving of the headline's variant against every other reference."""
    first = record.headline
    if not first.granted:
        return
    for savings in record.efficiency:
        if savings.reference != first.reference:
            yield from _against(savings, first.variant)


def _against(savings: Savings, id: str | None) -> Iterator[str]:
    variant = next((variant for variant in savings.variants if variant.id == id), None)
    if variant is None:
        return
    reference = f.plain(savings.reference)
    if is_saving(variant):
        yield f"Against {reference} it is granted too: {f.signed(variant.doublings.macs)} doublings in MACs."
    else:
        lost = f.points(variant.accuracy_difference, variant.difference_ci95)
        yield f"Against {reference} nothing is granted: {lost}; {f.plain(variant.reason)}."


def _selection(record: RunRecord) -> Iterator[str]:
    """State where accuracy on test may be too high, or where validation was no guide to it."""
    peeked = f.names(v.id for v in record.variants if v.training.selected_on == "test")
    if peeked:
        yield (
            f"The checkpoint of {peeked} was selected on the test images (`select_on: test`): the accuracy there is "
            "too high, by an unknown amount."
        )
    apart = [variant for variant in record.variants if _apart(variant)]
    if apart:
        figures = ", ".join(
            f"{f.plain(v.id)} {f.percent(v.validation.top1)} against {f.percent(v.accuracy.top1)}"
            for v in apart
            if v.validation
        )
        yield f"Accuracy on validation and on test differ by more than both intervals allow: {figures}."


def _apart(variant: Variant) -> bool:
    """Whether the 95% intervals of validation and test accuracy exclude each other."""
    if variant.validation is None:
        return False
    (low, high), (other_low, other_high) = variant.accuracy.ci95, variant.validation.ci95
    return low > other_high or high < other_low
