"""Table of the accuracy on corrupted images, against the headline's reference."""

from __future__ import annotations

from compress.efficiency.files import name_of
from compress.report import formats as f
from compress.report.file_rows import FileRow, changes_by_file, merge_files, shown_reference
from compress.report.tables import Column, Table, make_table
from compress.results import CorruptedFile, CorruptionChange, CorruptionExcess, RunRecord

MAX_NAMES = 3
NAMES = {
    "gaussian_noise": "Gaussian noise",
    "shot_noise": "shot noise",
    "motion_blur": "motion blur",
    "defocus_blur": "defocus blur",
    "jpeg": "JPEG",
    "pixelate": "pixelation",
}
"""Where a corruption is named otherwise than in recipes."""


CorruptionRow = FileRow[CorruptedFile, CorruptionChange]


def corruption_name(corruption: str) -> str:
    """JPEG: a corruption as it is written in a sentence."""
    return NAMES.get(corruption, f.plain(corruption).replace("_", " "))


def _mean(row: CorruptionRow) -> str:
    accuracies = [each.top1 for each in row.found.accuracies]
    return f.percent(sum(accuracies) / len(accuracies))


def _error(row: CorruptionRow) -> str:
    if row.change is None:
        return "reference"
    error, ends = row.change.mean_corruption_error, row.change.mean_corruption_error_ci95
    return (
        "no error of the reference"
        if error is None or ends is None
        else f"{error:.2f} ({ends[0]:.2f} to {ends[1]:.2f})"
    )


def beyond(each: CorruptionExcess) -> str:
    """JPEG −12.3 points: what a corruption costs beyond the loss without it."""
    value = 100 * each.beyond_clean
    return f"{corruption_name(each.corruption)} {'−' if value > 0 else '+'}{abs(value):.1f} points"


def _largest(row: CorruptionRow) -> str:
    if row.change is None:
        return "reference"
    most = row.change.excess[0]
    return beyond(most) if most.beyond_clean > 0 else "none"


def worse_corruptions(change: CorruptionChange) -> list[CorruptionExcess]:
    """Return the corruptions that are shown to hurt a network or file more than the reference, the worst first."""
    return [each for each in change.excess if each.worse]


def _worse(row: CorruptionRow) -> str:
    if row.change is None:
        return "reference"
    shown = [corruption_name(each.corruption) for each in worse_corruptions(row.change)]
    more = len(shown) - MAX_NAMES
    return ", ".join(shown[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "") or "none shown"


CORRUPTIONS: tuple[Column[CorruptionRow], ...] = (
    Column("variant", lambda r: f.plain(r.variant), False),
    Column("files", lambda r: f.names(r.files), False),
    Column("uncorrupted", lambda r: f.percent(r.found.clean)),
    Column("corrupted, mean", _mean),
    Column("mean corruption error (95% interval)", _error),
    Column("most lost beyond the uncorrupted loss", _largest),
    Column("shown to hurt more", _worse, False),
)


def corruption_tables(record: RunRecord) -> list[Table]:
    """Lay out the accuracy on corrupted images; nothing where it was not measured."""
    found = record.robustness
    if found is None:
        return []
    kinds = dict.fromkeys(each.corruption for file in found.files for each in file.accuracies)
    severities = dict.fromkeys(str(each.severity) for file in found.files for each in file.accuracies)
    note = (
        f"Top-1 on {found.images:,} test images under {f.names(map(corruption_name, kinds))}, at severities "
        f"{f.names(severities)} of {found.benchmark}. Mean corruption error: errors relative to those of "
        f"{f.plain(shown_reference(record))}, whose own is 1. A corruption is shown to hurt more where the accuracy "
        "that it costs is beyond what is lost on the same images without it, at 5% with Holm's correction for all "
        "corruptions of all files; others may too."
    )
    return [
        make_table("corruptions", "Corruptions", note, CORRUPTIONS, merge_files(corruption_rows(record), CORRUPTIONS))
    ]


def corruption_rows(record: RunRecord) -> list[CorruptionRow]:
    """Return a row per network and file, with its change against the headline's reference."""
    found = record.robustness
    if found is None:
        return []
    changes = changes_by_file(record, found.changes)
    return [
        CorruptionRow(each.variant, (name_of(each),), each, changes.get((each.variant, each.runtime, each.precision)))
        for each in found.files
    ]
