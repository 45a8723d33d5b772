"""Tables of predictions beyond top-1: confidence, and accuracy by class."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from compress.efficiency.files import files_of, name_of
from compress.registry import PYTORCH
from compress.report import formats as f
from compress.report.file_rows import FileRow, changes_by_file, merge_files, shown_reference
from compress.report.reliability_chart import reliability_svg
from compress.report.tables import Column, Table, make_table
from compress.results import Quality, QualityChange, RunRecord, Thresholded

MAX_NAMES = 4


Row = FileRow[Quality, QualityChange]


def _over(row: Row) -> str:
    """8.2 points over (7.0 to 9.4): how far mean confidence is from the accuracy."""
    value, (low, high) = row.found.confidence.overconfidence, row.found.confidence.overconfidence_ci95
    sign = 1 if value >= 0 else -1
    ends = sorted((100 * sign * low, 100 * sign * high))
    text = f"{100 * abs(value):.1f} points {'over' if value >= 0 else 'under'} ({ends[0]:.1f} to {ends[1]:.1f})"
    return text.replace("-", "−")


def _accepted(at: Thresholded | None) -> str:
    """67.2% accepted, 94.8% of them correct."""
    if at is None:
        return f.UNKNOWN
    return f"{f.percent(at.accepted)}, " + ("none" if at.precision is None else f"{f.percent(at.precision)} correct")


def _fitted(row: Row) -> str:
    if row.change is None:
        return "reference"
    at = row.change.fitted_threshold
    return "none found" if at is None else f"from {at.threshold:.3f}: {_accepted(at)}"


def _worse(row: Row) -> str:
    """Scores that are shown to be worse than the reference's."""
    if row.change is None:
        return "reference"
    shown = {"ECE": row.change.ece, "NLL": row.change.nll, "Brier score": row.change.brier}
    return f.names(name for name, shift in shown.items() if shift.worse) or "nothing shown"


def _worst(row: Row) -> str:
    if not row.found.classes:
        return f.UNKNOWN
    worst = row.found.classes[0]
    return f"{f.accuracy(worst.recall, worst.ci95)} {f.plain(worst.name)}"


def _lost(row: Row) -> str:
    if row.change is None:
        return "reference"
    named = [f"{f.plain(each.name)} −{100 * each.difference:.1f}" for each in row.change.lost[:MAX_NAMES]]
    more = len(row.change.lost) - len(named) + row.change.lost_left_out
    return ", ".join(named) + (f" and {more} more" if more else "") or "none shown"


CONFIDENCE: tuple[Column[Row], ...] = (
    Column("variant", lambda r: f.plain(r.variant), False),
    Column("files", lambda r: f.names(r.files), False),
    Column("ECE (95% interval)", lambda r: f.accuracy(r.found.confidence.ece, r.found.confidence.ece_ci95)),
    Column("confidence over accuracy", _over),
    Column("NLL", lambda r: f"{r.found.confidence.nll:.3f}"),
    Column("Brier score", lambda r: f"{r.found.confidence.brier:.3f}"),
    Column("accepted at the threshold", lambda r: _accepted(r.change.same_threshold) if r.change else "reference"),
    Column("threshold for equal precision", _fitted),
    Column("shown to be worse", _worse, False),
)

CLASSES: tuple[Column[Row], ...] = (
    Column("variant", lambda r: f.plain(r.variant), False),
    Column("files", lambda r: f.names(r.files), False),
    Column("balanced accuracy (95% interval)", lambda r: f.accuracy(r.found.balanced, r.found.balanced_ci95)),
    Column("worst class (95% interval)", _worst),
    Column("shown to have lost", _lost, False),
    Column("shown to have gained", lambda r: str(r.change.gained) if r.change else "reference"),
)
TOP5: Column[Row] = Column(
    "top-5 (95% interval)",
    lambda r: f.UNKNOWN if r.found.top5 is None else f.accuracy(r.found.top5, r.found.top5_ci95 or ()),
)


def quality_tables(record: RunRecord) -> list[Table]:
    """Lay out confidence and classes of all networks and files; nothing where an earlier version made the results."""
    rows = quality_rows(record)
    return [_confidence_table(record, rows), _classes_table(record, rows)] if rows else []


def quality_rows(record: RunRecord) -> list[Row]:
    """Return a row per network and file that counts, with its change against the headline's reference."""
    changes = changes_by_file(record, record.quality_changes)
    rows = []
    for variant in record.variants:
        found = {(each.runtime, each.precision): each.quality for each in variant.artifacts}
        found[PYTORCH, None] = variant.quality
        for file in files_of(variant):
            if quality := found.get((file.runtime, file.precision)):
                change = changes.get((variant.id, file.runtime, file.precision))
                rows.append(Row(variant.id, (name_of(file),), quality, change))
    return rows


def _confidence_table(record: RunRecord, rows: Sequence[Row]) -> Table:
    base = next((row.change.reference_threshold for row in rows if row.change), None)
    name = f.plain(shown_reference(record))
    accepts = f" At a confidence of {base.threshold:g}, {name} accepts {_accepted(base)}." if base else ""
    scaled = _temperatures(record)
    note = (
        "Confidence is the softmax probability of the predicted class. ECE is its distance from the accuracy, in 15 "
        "bins of equally many images (fewer where many have the same confidence), debiased."
        f"{accepts} The threshold for equal precision is fitted on validation images. Shown to be worse: at 5%, with "
        "Holm's correction for the three scores of all files."
    )
    if scaled:
        note += f" Logits of files are divided by a temperature that is fitted on validation: {scaled}."
    chart = partial(reliability_svg, record, shown_reference(record))
    return make_table("confidence", "Confidence", note, CONFIDENCE, merge_files(rows, CONFIDENCE), chart)


def _temperatures(record: RunRecord) -> str:
    """Name the temperatures of the files of each variant."""
    found = {v.id: sorted({file.temperature for file in v.artifacts if file.temperature}) for v in record.variants}
    return ", ".join(f"{f.plain(name)} {' and '.join(f'{t:.2f}' for t in own)}" for name, own in found.items() if own)


def _classes_table(record: RunRecord, rows: Sequence[Row]) -> Table:
    note = (
        "Balanced accuracy is the mean recall of the classes. A class is shown to have lost against "
        f"{f.plain(shown_reference(record))}, in points, where McNemar's exact test of its images says so at 5% with "
        "Holm's correction for the classes of all files; others may have lost too."
    )
    with_top5 = any(row.found.top5 is not None for row in rows)
    columns = (*CLASSES[:3], TOP5, *CLASSES[3:]) if with_top5 else CLASSES
    return make_table("quality", "Accuracy by class", note, columns, merge_files(rows, columns))
